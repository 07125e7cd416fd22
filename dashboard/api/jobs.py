"""Jobs: look, send, retry, cancel, remove."""

from typing import Annotated

from fastapi import Query

from control import jobs as verbs
from dashboard import sending
from dashboard.api.models import After, Done, Job, Limit, Name, Page, Send, Sent, page
from dashboard.api.router import Routes, may
from dashboard.security import By
from dashboard.services import Opened, Services
from errors import JobNotFound
from ledger.states import State
from ledger.views import JobRow, JobView

router = Routes(tags=["jobs"])


@router.get("/jobs")
def list_jobs(
    opened: Opened,
    queue: Annotated[Name | None, Query(description="Of this queue.")] = None,
    state: Annotated[State | None, Query(description="In this state.")] = None,
    actor: Annotated[Name | None, Query(description="Of this actor.")] = None,
    after: After = None,
    limit: Limit = 50,
) -> Page[JobRow]:
    """List jobs, newest first, those in the history too."""
    rows = opened.queries.jobs(queue=queue, state=state, actor=actor, limit=limit + 1, before=after)
    return page(rows, limit, rows[limit - 1].id if len(rows) > limit else None)


@router.get("/jobs/{id}")
def get_job(opened: Opened, id: Name) -> Job:
    """Show one job: by its id, at least 8 characters of it, or its message id."""
    return Job.of(found(opened, id))


@router.post("/jobs", status_code=201, responses=may(404))
def enqueue_job(opened: Opened, by: By, given: Send) -> Sent:
    """Send a message to an actor: one new job.

    Its arguments are checked as by `send()`; who sends it is the producer that `allowed_producers` names.
    """
    job, duplicate = sending.send(opened, by, **dict(given))
    return Sent(
        id=job.id,
        message_id=job.message_id,
        queue=job.queue,
        actor=job.actor,
        state=job.state,
        run_at=job.run_at,
        duplicate=duplicate,
    )


@router.post("/jobs/{id}/retry")
def retry_job(opened: Opened, by: By, id: Name) -> Done:
    """Run a failed, cancelled or delayed job now; its attempts count from 0."""
    return Done(id=verbs.retry(opened.control, id, by=by), result="retried")


@router.post("/jobs/{id}/cancel")
def cancel_job(opened: Opened, by: By, id: Name) -> Done:
    """Cancel a job: at once if it is not running, else it is asked to stop (`requested`)."""
    return Done(id=found(opened, id).id, result=verbs.cancel(opened.control, id, by=by))


@router.delete("/jobs/{id}")
def remove_job(opened: Opened, by: By, id: Name) -> Done:
    """Forget a finished job; only its journal stays."""
    return Done(id=verbs.remove(opened.control, id, by=by), result="removed")


def found(opened: Services, ref: str) -> JobView:
    """Raises ``JobNotFound``."""
    job = opened.queries.job(ref)
    if job is None:
        raise JobNotFound(f"no job {ref!r}: give its id, at least 8 characters of it, or its Dramatiq message id")
    return job

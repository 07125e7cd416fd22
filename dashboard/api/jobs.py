"""Jobs: look, send, retry, cancel, remove."""

from typing import Annotated, Any

from fastapi import Query

from broker import catalogue
from control import jobs as verbs
from dashboard.api.models import After, Done, Job, Limit, Name, Page, Send, Sent, page
from dashboard.api.router import Routes, may
from dashboard.security import By
from dashboard.services import Opened, Services
from errors import JobNotFound, NotFound
from ledger.states import State
from ledger.views import JobRow, JobView
from middleware.unique import Duplicate

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
def enqueue_job(opened: Opened, by: By, send: Send) -> Sent:
    """Send a message to an actor: one new job.

    Its arguments are checked as by `send()`; who sends it is the producer that `allowed_producers` names.
    """
    options: dict[str, Any] = {} if send.priority is None else {"priority": send.priority}
    if send.unique is not True:
        options["unique"] = send.unique or None
    message = catalogue.message(opened.broker, send.actor, send.args, send.kwargs, queue=send.queue, **options)
    delay = send.delay_ms
    if send.eta is not None:
        delay = max(0, round((send.eta - opened.queries.database_time()).total_seconds() * 1000))
    with opened.broker.sent_by(by.name):
        sent = opened.broker.enqueue(message, delay=delay)
    job = opened.queries.job(sent.message_id)
    if job is None:
        raise NotFound(f"the job that holds the key of {send.actor!r} is not in the ledger any more; send it again")
    return Sent(
        id=job.id,
        message_id=job.message_id,
        queue=job.queue,
        actor=job.actor,
        state=job.state,
        run_at=job.run_at,
        duplicate=isinstance(sent, Duplicate),
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

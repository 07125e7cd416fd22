"""Jobs: look, send, retry, cancel, remove."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from fastapi import Query
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from broker import edits
from control import export
from control import jobs as verbs
from dashboard import sending
from dashboard.api import shown
from dashboard.api.models import After, Asks, Count, Done, Edit, Job, Limit, Listing, Name, Payload, Send, Sent
from dashboard.api.router import Routes, may
from dashboard.api.wanted import Wanted
from dashboard.security import By
from dashboard.services import Opened, Services
from errors import JobNotFound
from ledger.search import Suggestions
from ledger.states import State
from ledger.views import JobView

router = Routes(tags=["jobs"])


class Counts(BaseModel):
    """How many jobs fit; counting ends at ten thousand."""

    all: Count
    states: dict[State, Count]


class Result(BaseModel):
    """What a job returned."""

    id: str
    state: State
    kept: bool = Field(description="There is a result.")
    value: Any = Field(description="It, redacted; null when there is none.")


@router.get("/jobs")
def list_jobs(opened: Opened, asks: Asks, wanted: Wanted, after: After = None, limit: Limit = 50) -> Listing:
    """List the jobs that fit, newest first, those in the history too."""
    page = opened.queries.search(wanted, limit=limit, after=after)
    return Listing(items=[shown.listed(found, asks) for found in page.jobs], next=page.after, since=page.since)


@router.get("/jobs/count")
def count_jobs(opened: Opened, wanted: Wanted) -> Counts:
    """Count the jobs that fit, by state."""
    states = {state: Count.of(found) for state, found in opened.queries.count_states(wanted).items()}
    return Counts(all=Count.of(opened.queries.count(wanted)), states=states)


@router.get(
    "/jobs/export",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "A line for each job; CSV has a heading.",
            "content": {media: {"schema": {"type": "string"}} for media in ("application/x-ndjson", "text/csv")},
        }
    },
)
def export_jobs(
    opened: Opened,
    wanted: Wanted,
    format: Annotated[Literal["ndjson", "csv"], Query(description="Of the lines.")] = "ndjson",
    most: Annotated[int | None, Query(ge=1, description="At most so many; all, if not given.")] = None,
) -> StreamingResponse:
    """Write out all jobs that fit, newest first, redacted.  As a stream: a page is in memory at a time."""
    opened.queries.count(wanted, most=1)  # what is wrong is said before the stream begins
    lines: Iterator[str] = (export.ndjson if format == "ndjson" else export.as_csv)(opened.queries, wanted, most=most)
    media = "application/x-ndjson" if format == "ndjson" else "text/csv"
    return StreamingResponse(
        lines, media_type=media, headers={"Content-Disposition": f'attachment; filename="jobs.{format}"'}
    )


@router.get("/jobs/{id}")
def get_job(opened: Opened, asks: Asks, id: Name) -> Job:
    """Show one job: by its id, at least 8 characters of it, or its message id."""
    return shown.job(found(opened, id), asks)


@router.get("/jobs/{id}/payload")
def get_job_payload(opened: Opened, id: Name) -> Payload:
    """Show a job's message, redacted."""
    view = found(opened, id)
    return Payload(id=view.id, message=shown.payload(view), revealed=False)


@router.post("/jobs/{id}/reveal")
def reveal_job_payload(opened: Opened, by: By, id: Name) -> Payload:
    """Show a job's message with what is encrypted or redacted in clear; its journal says who asked."""
    view = shown.revealed(opened, found(opened, id).id, by)
    return Payload(id=view.id, message=shown.payload(view, revealed=True), revealed=True)


@router.get("/jobs/{id}/result")
def get_job_result(opened: Opened, id: Name) -> Result:
    """Show what a job returned.  Looking does not count as reading: retention goes on as before."""
    view = found(opened, id)
    return Result(id=view.id, state=view.state, kept=view.result is not None, value=shown.result(opened, view))


@router.post("/jobs", status_code=201, responses=may(404))
def enqueue_job(opened: Opened, by: By, given: Send) -> Sent:
    """Send a message to an actor: one new job.

    Its arguments are checked as by `send()`; who sends it is the producer that `allowed_producers` names.
    """
    job, duplicate = sending.send(opened, by, **dict(given))
    return Sent.of(job, duplicate=duplicate)


@router.post("/jobs/{id}/retry")
def retry_job(opened: Opened, by: By, id: Name) -> Done:
    """Run a failed, cancelled or delayed job now; its attempts count from 0."""
    return Done(id=verbs.retry(opened.control, id, by=by), result="retried")


@router.post("/jobs/{id}/run-now")
def run_job_now(opened: Opened, by: By, id: Name) -> Done:
    """Let a delayed job run now; its attempts go on."""
    return Done(id=verbs.run_now(opened.control, id, by=by), result="waiting")


@router.post("/jobs/{id}/edit", status_code=201)
def edit_job(opened: Opened, by: By, id: Name, given: Edit) -> Sent:
    """Send a job again with other arguments: a new job, linked to the old one, which stays as it is."""
    with sending.acting(opened, by):
        new = edits.edit(opened.broker, opened.control, id, **dict(given), by=by)
    return Sent.of(found(opened, new), duplicate=False)


@router.post("/jobs/{id}/cancel")
def cancel_job(opened: Opened, by: By, id: Name) -> Done:
    """Cancel a job: at once if it is not running, else it is asked to stop (`requested`)."""
    return Done(id=found(opened, id).id, result=verbs.cancel(opened.control, id, by=by))


@router.delete("/jobs/{id}")
def remove_job(opened: Opened, by: By, id: Name) -> Done:
    """Forget a finished job; only its journal stays."""
    return Done(id=verbs.remove(opened.control, id, by=by), result="removed")


@router.get("/suggestions")
def list_suggestions(opened: Opened) -> Suggestions:
    """List what a query may name: queues, actors, workers, states."""
    return opened.queries.suggestions()


def found(opened: Services, ref: str) -> JobView:
    """Raises ``JobNotFound``."""
    job = opened.queries.job(ref)
    if job is None:
        raise JobNotFound(f"no job {ref!r}: give its id, at least 8 characters of it, or its Dramatiq message id")
    return job

"""What of a job is shown to whom: redacted, and to who may not see what jobs carry, without it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from broker import revealing
from control.who import By
from dashboard.api.models import Job, Listed
from dashboard.security import Principal
from dashboard.services import Services
from errors import JobNotFound
from ledger.events import JobEvent
from ledger.failures import FailureGroup
from ledger.flows.views import FlowView
from ledger.redact import redacted, redacted_body, redacted_text, without_secrets
from ledger.search import Found
from ledger.views import JobView


def job(view: JobView, asks: Principal) -> Job:
    """Everything known of one job."""
    if asks.may("get_job_payload"):
        view = without_secrets(view)
        return Job.of(view, view.message)
    return Job.of(bare(view), None)


def bare(view: JobView) -> JobView:
    """Without what it carries and left, and what its errors and notes said."""
    attempts = [replace(attempt, error_message=None, traceback=None) for attempt in view.attempts]
    progress = view.progress and replace(view.progress, note="")
    return replace(view, attempts=attempts, progress=progress, checkpoint=None)


def payload(view: JobView, *, revealed: bool = False) -> Mapping[str, Any] | None:
    """Its message; None when its bytes are none."""
    message = view.message
    if message is None or revealed:
        return message
    shown: Mapping[str, Any] = redacted(dict(message))
    return shown


def revealed(opened: Services, id: str, by: By) -> JobView:
    """The job with what is encrypted in clear, as far as there are keys.  The journal has a line of it first."""
    job = revealing.revealed(opened.broker, opened.control, opened.queries, id, by=by)
    if job is None:
        raise JobNotFound(f"job {id} was removed a moment ago")
    return job


def listed(found: Found, asks: Principal) -> Listed:
    """One line of a list."""
    if not asks.may("get_job_payload"):
        found = replace(found, args="", error=None)
    return Listed.model_validate(found)


def result(opened: Services, view: JobView) -> Any:
    """Looked at, not read: retention goes on as if nobody had seen it."""
    body = opened.queries.result_body(view.id)
    return None if body is None else redacted_body(body)


def group(found: FailureGroup, asks: Principal) -> FailureGroup:
    """Type and place are for everybody; what the error said is not."""
    return found if asks.may("get_job_payload") else replace(found, message="")


def flow(found: FlowView, asks: Principal) -> FlowView:
    """The same of what its steps failed with."""
    seen = asks.may("get_job_payload")
    return replace(
        found,
        steps=[
            replace(
                step,
                error=_said(step.error, seen),
                failures=[replace(one, error=_said(one.error, seen)) for one in step.failures],
            )
            for step in found.steps
        ],
    )


def event(found: JobEvent, asks: Principal) -> JobEvent:
    """The same of one event of the feed."""
    return replace(found, error_message=_said(found.error_message, asks.may("get_job_payload")))


def _said(text: str | None, seen: bool) -> str | None:
    return redacted_text(text) if text and seen else None

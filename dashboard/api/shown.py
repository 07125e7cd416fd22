"""What of a job is shown to whom: redacted, and to who may not see what jobs carry, without it."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from dashboard.api.models import Job, Listed
from dashboard.security import Principal
from dashboard.services import Services
from ledger.redact import redacted, redacted_text
from ledger.search import Found
from ledger.views import AttemptView, JobView


def job(view: JobView, asks: Principal) -> Job:
    """Everything known of one job."""
    seen = asks.may("get_job_payload")
    view = replace(view, attempts=[_attempt(x, seen) for x in view.attempts])
    if view.checkpoint is not None:
        view = replace(
            view, checkpoint=replace(view.checkpoint, state=redacted(view.checkpoint.state)) if seen else None
        )
    return Job.of(view, payload(view) if seen else None)


def payload(view: JobView, *, revealed: bool = False) -> Mapping[str, Any] | None:
    """Its message; None when its bytes are none."""
    message = view.message
    if message is None or revealed:
        return message
    shown: Mapping[str, Any] = redacted(dict(message))
    return shown


def listed(found: Found, asks: Principal) -> Listed:
    """One line of a list."""
    if not asks.may("get_job_payload"):
        found = replace(found, args="", error=None)
    return Listed.model_validate(found)


def result(opened: Services, view: JobView) -> Any:
    """Looked at, not read: retention goes on as if nobody had seen it."""
    body = opened.queries.result_body(view.id)
    if body is None:
        return None
    try:
        return redacted(json.loads(body))
    except ValueError:
        return redacted_text(body.decode("utf-8", "replace"))


def _attempt(attempt: AttemptView, seen: bool) -> AttemptView:
    if not seen:
        return replace(attempt, error_message=None, traceback=None)
    return replace(
        attempt,
        error_message=attempt.error_message and redacted_text(attempt.error_message),
        traceback=attempt.traceback and redacted_text(attempt.traceback),
    )

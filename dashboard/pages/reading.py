"""What a reader may see: of their queues, and of what jobs carry."""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from dramatiq.errors import DecodeError
from dramatiq.message import Message
from fastapi import Request

from control.keys import reveal
from control.who import Who
from dashboard.security import principal
from dashboard.services import Services
from errors import Refusal
from ledger.queries import Queries
from ledger.redact import redacted, redacted_text
from ledger.sealed import SEALED
from ledger.text import clean_json
from ledger.views import JobView


def asked(request: Request, opened: Services) -> Queries:
    """The ledger, as far as whoever asks may see it."""
    return opened.queries


@dataclass(frozen=True)
class Payload:
    """What a job carries and left, as it may be shown."""

    readable: bool  #: its bytes are a message
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] | None = None
    options: Mapping[str, Any] | None = None
    result: Any = None
    has_result: bool = False
    checkpoint: Any = None
    raw: str = ""  #: all of it, as JSON


def payload_of(request: Request, opened: Services, job: JobView, *, revealed: bool = False) -> Payload | None:
    """None when whoever asks may not see what jobs carry.  Redacted, unless ``revealed``."""
    if not principal(request).may("get_job_payload"):
        return None
    hide: Callable[[Any], Any] = clean_json if revealed else redacted
    result = _result(opened, job)
    checkpoint = hide(job.checkpoint.state) if job.checkpoint else None
    if job.message is None:
        text = job.body.decode("utf-8", "backslashreplace")
        return Payload(False, checkpoint=checkpoint, raw=text if revealed else redacted_text(text))
    args, kwargs, options = (job.message.get(name) for name in ("args", "kwargs", "options"))
    return Payload(
        True,
        hide(args) if isinstance(args, list) else (),
        hide(kwargs) if isinstance(kwargs, dict) else {},
        hide(options) if isinstance(options, dict) else {},
        hide(result),
        job.result is not None,
        checkpoint,
        json.dumps(hide(dict(job.message)), indent=2, ensure_ascii=False),
    )


def revealed(opened: Services, id: str, by: Who) -> JobView:
    """The job with what is encrypted in clear, as far as there are keys.  The journal has a line of it first."""
    broker = opened.broker
    reveal(opened.control, opened.queries, id, by=by)
    job = opened.queries.job(id, ring=broker.ring)
    assert job is not None, "its row was locked a moment ago"
    with suppress(DecodeError, Refusal):  # what cannot be opened stays as it is, and says which key it is under
        message = Message.decode(job.body)
        if SEALED in message.options:
            message, _ = broker.encryption.opened(message)
            return replace(job, body=message.encode())
    return job


def _result(opened: Services, job: JobView) -> Any:
    """Looked at, not read: retention goes on as if nobody had seen it."""
    body = opened.queries.result_body(job.id) if job.result else None
    if body is None:
        return None
    try:
        return clean_json(json.loads(body))
    except ValueError:
        return redacted_text(body.decode("utf-8", "replace"))

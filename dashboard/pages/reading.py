"""What a reader may see: of their queues, and of what jobs carry."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import Request

from dashboard.security import principal
from dashboard.services import Services
from ledger.queries import Queries
from ledger.redact import redacted, redacted_text
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


def _result(opened: Services, job: JobView) -> Any:
    """Looked at, not read: retention goes on as if nobody had seen it."""
    body = opened.queries.result_body(job.id) if job.result else None
    if body is None:
        return None
    try:
        return clean_json(json.loads(body))
    except ValueError:
        return redacted_text(body.decode("utf-8", "replace"))

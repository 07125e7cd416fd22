"""What of a job's arguments may be shown to all, and searched: without what looks like a secret.

By the names of members (``password``, ``api_key`` …, and those that settings add) and by what a text looks like (a
bearer token, a URL with a password).  What an actor declares as sensitive is encrypted before it reaches the ledger,
and is masked here.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from ledger.sealing import masked
from ledger.text import clean
from ledger.views import JobView

HIDDEN = "[redacted]"
_NAMES = re.compile(
    r"pass(word|wd|phrase|code)|secret|token|authori[sz]ation|api[-_]?key|private[-_]?key|access[-_]?key|credential"
    r"|cookie|session[-_]?id|\bpin\b|cvv|cvc|card[-_]?number|\biban\b|\bssn\b",
    re.IGNORECASE,
)
_TEXTS = re.compile(
    r"(?P<scheme>\b(?:bearer|basic)\s+)[\w.~+/=-]{8,}"
    r"|(?P<user>://[^/\s:@]*:)[^@\s/]+(?=@)"
    r"|(?P<named>\b(?:password|passwd|secret|token|api[-_]?key)\s*[=:]\s*)[^\s,;&]+"
    r"|\b(?:sk|pk|rk|ghp|gho|xox[abp])[-_][\w-]{12,}"
    r"|\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*",
    re.IGNORECASE,
)
_STAND_IN = re.compile(rf"{re.escape(HIDDEN)}|<encrypted: key [A-Za-z0-9._-]{{1,40}}>")
_DEEPEST = 20
_NEVER = re.compile(r"((?!))")


class _Added:
    """What this process was told to hide besides; it has one set of settings."""

    names = _NEVER
    texts = _NEVER


def hide(patterns: str) -> None:
    """Hide members of these names too, by commas, ``*`` for anything; in place of those that were given before."""
    wanted = [re.escape(name.strip()).replace(r"\*", r"[\w-]*") for name in patterns.split(",") if name.strip()]
    names = "|".join(wanted)
    _Added.names = re.compile(names, re.IGNORECASE) if wanted else _NEVER
    _Added.texts = re.compile(rf"(\b(?:{names})['\"]?\s*[=:]\s*)[^\s,;&]+", re.IGNORECASE) if wanted else _NEVER


def is_secret(name: str) -> bool:
    """Whether a member of this name is not for everyone's eyes."""
    return _NAMES.search(name) is not None or _Added.names.fullmatch(name) is not None


def redacted_text(text: str) -> str:
    shown = _Added.texts.sub(rf"\1{HIDDEN}", clean(text))
    shown = _TEXTS.sub(lambda found: f"{found['scheme'] or found['user'] or found['named'] or ''}{HIDDEN}", shown)
    return masked(shown)


def redacted(value: Any, depth: int = 0) -> Any:
    """Plain JSON without what looks like a secret; names of members stay."""
    if depth > _DEEPEST:
        return HIDDEN
    match value:
        case str():
            return redacted_text(value)
        case Mapping():
            return {
                clean(str(name)): HIDDEN if is_secret(str(name)) else redacted(item, depth + 1)
                for name, item in value.items()
            }
        case list() | tuple():
            return [redacted(item, depth + 1) for item in value]
    return value


def stand_ins(value: Any) -> set[str]:
    """What plain JSON has in it that is shown in the place of secrets, and is none of their values."""
    return set(_STAND_IN.findall(json.dumps(value, ensure_ascii=False, default=str)))


def redacted_body(body: bytes) -> Any:
    """What a job left, which should be JSON."""
    try:
        return redacted(json.loads(body))
    except (ValueError, RecursionError):
        return redacted_text(body.decode("utf-8", "replace"))


def without_secrets(job: JobView) -> JobView:
    """As it may be shown to who may see what jobs carry."""
    text = job.body.decode("utf-8", "backslashreplace")
    shown = redacted_text(text) if job.message is None else json.dumps(redacted(dict(job.message)))
    attempts = [
        replace(
            attempt,
            error_message=attempt.error_message and redacted_text(attempt.error_message),
            traceback=attempt.traceback and redacted_text(attempt.traceback),
        )
        for attempt in job.attempts
    ]
    kept, told = job.checkpoint, job.progress
    return replace(
        job,
        body=shown.encode(),
        attempts=attempts,
        checkpoint=kept and replace(kept, state=redacted(kept.state)),
        progress=told and replace(told, note=redacted_text(told.note)),
    )


def message_of(body: bytes) -> Mapping[str, Any]:
    """A Dramatiq message as a mapping; empty when the bytes are none."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def preview(message: Mapping[str, Any], most: int = 120) -> str:
    """A message's arguments as they are written in a call, redacted and in short."""
    args, kwargs = message.get("args") or (), message.get("kwargs") or {}
    parts = [_json(redacted(value)) for value in args] if isinstance(args, (list, tuple)) else []
    if isinstance(kwargs, Mapping):
        parts += [f"{name}={_json(value)}" for name, value in redacted(kwargs).items()]
    text = ", ".join(parts)
    return text if len(text) <= most else f"{text[: most - 1]}…"


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Each text, number and truth value of redacted JSON, with its path: ``customer.id``, ``items.0``."""
    match value:
        case Mapping():
            for name, item in value.items():
                yield from leaves(item, f"{path}.{name}" if path else str(name))
        case list() | tuple():
            for n, item in enumerate(value):
                yield from leaves(item, f"{path}.{n}" if path else str(n))
        case str() | int() | float() | bool():
            yield path, value


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)

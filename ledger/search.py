"""What may be asked of jobs: a filter, the words it is written with, pages and bounded counts.

    queue:billing.* state:failed,delayed actor:charge error:Timeout args.customer:42 since:2h refused card

A qualifier may be given several values, by commas or again; a job fits one of each qualifier's, and has every word.
"""

import base64
import binascii
import difflib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from errors import BadCursor, BadQuery
from ledger.states import Reason, State
from ledger.text import all_ids
from ledger.views import JobRow

#: Counting ends here: whoever asks is told "10,000+".
MOST = 10_000
#: Free text is looked for in the jobs of so many days, unless the filter has a ``since``.
TEXT_DAYS = 7
#: How many ids a filter may name.
MOST_IDS = 10_000
#: Beyond these there is no job; and between them, no zone or margin leads out of the years there are.
_EARLIEST, _LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Filter:
    """Which jobs.  Empty parts do not restrict; of a part with several values a job fits one.  Hashable."""

    states: tuple[State, ...] = ()
    queues: tuple[str, ...] = ()  #: names, or patterns with ``*``
    actors: tuple[str, ...] = ()
    reasons: tuple[Reason, ...] = ()
    fingerprint: str = ""  #: of a group of failures
    error: str = ""  #: a part of the type or the message of the error that made it a dead letter
    worker: int | None = None  #: it had an attempt there, or is in its hands
    since: datetime | None = None  #: enqueued then or later …
    until: datetime | None = None  #: … and before that
    text: str = ""  #: words, each found in the job as a whole or as a beginning
    args: tuple[tuple[str, str], ...] = ()  #: (path of an argument, its value)
    tags: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()  #: patterns of queues that whoever asks may see; empty: all

    def __post_init__(self) -> None:
        for name, moment in (("since", self.since), ("until", self.until)):
            if moment is not None and not _EARLIEST <= moment <= _LATEST:
                object.__setattr__(self, name, _EARLIEST if moment < _EARLIEST else _LATEST)

    def words(self) -> str:
        """It as a query that :func:`parse` reads as the same, without scopes."""
        parts = [f"id:{_quoted(id)}" for id in self.ids]
        for name, values in (("state", self.states), ("queue", self.queues), ("actor", self.actors)):
            parts += [f"{name}:{','.join(map(_quoted, values))}"] if values else []
        parts += [f"reason:{','.join(self.reasons)}"] if self.reasons else []
        parts += [f"fingerprint:{_quoted(self.fingerprint)}"] if self.fingerprint else []
        parts += [f"error:{_quoted(self.error)}"] if self.error else []
        parts += [f"worker:{self.worker}"] if self.worker is not None else []
        parts += [f"args.{path}:{_quoted(value)}" for path, value in self.args]
        parts += [f"tag:{_quoted(tag)}" for tag in self.tags]
        for name, moment in (("since", self.since), ("until", self.until)):
            parts += [f"{name}:{moment.astimezone(UTC).isoformat()}"] if moment else []
        parts += [_quoted(word, ":") for word in self.text.split(" ")] if self.text else []
        return " ".join(parts)

    def within(self, scopes: Sequence[str]) -> "Filter":
        """The same, of these queues only; none: all."""
        return replace(self, scopes=tuple(scopes))

    def to_json(self) -> str:
        return json.dumps({f.name: value for f in fields(self) if (value := getattr(self, f.name))}, default=_plain)

    @classmethod
    def from_json(cls, text: str) -> "Filter":
        given: dict[str, Any] = json.loads(text)
        for name, value in given.items():
            if name in ("since", "until"):
                given[name] = datetime.fromisoformat(value)
            elif name == "args":
                given[name] = tuple((path, wanted) for path, wanted in value)
            elif isinstance(value, list):
                kind: Callable[[str], str] = {"states": State, "reasons": Reason}.get(name, str)
                given[name] = tuple(kind(item) for item in value)
        return cls(**given)

    @property
    def is_empty(self) -> bool:
        """Whether every job fits, as far as scopes let."""
        return replace(self, scopes=()) == Filter()

    @property
    def is_text(self) -> bool:
        """Whether it asks for what is found by words only."""
        return bool(self.text or self.args or self.tags)


@dataclass(frozen=True)
class Found(JobRow):
    """One line of what was found."""

    args: str = ""  #: its arguments, redacted, in short
    error: str | None = None  #: what made it a dead letter, or its last error
    progress: float | None = None  #: 0 to 1, of a running job that told
    duration_s: float | None = None  #: how long the last attempt of a finished job ran; None: it never did


@dataclass(frozen=True)
class Page:
    """Some jobs, newest first."""

    jobs: Sequence[Found]
    after: str | None  #: the cursor of the next page; None: there is none
    since: datetime | None = None  #: from when on words were looked for


@dataclass(frozen=True)
class Bounded:
    """A count that ended at a bound."""

    count: int
    more: bool = False  #: there are more than that

    def __str__(self) -> str:
        return f"{self.count:,}{'+' if self.more else ''}"


@dataclass(frozen=True)
class Suggestions:
    """What the query box may offer."""

    queues: Sequence[str] = ()
    actors: Sequence[str] = ()
    workers: Sequence[int] = ()
    states: Sequence[str] = field(default=tuple(State))
    qualifiers: Sequence[str] = ()


_CURSOR = "1"


def cursor_of(id: str) -> str:
    """The place behind the job with this id; it stays right whatever is enqueued, retried or archived meanwhile."""
    return base64.urlsafe_b64encode(f"{_CURSOR}{id}".encode()).decode().rstrip("=")


def place_of(cursor: str) -> str:
    """The id behind which a cursor goes on.  Raises ``BadCursor``."""
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
    except (binascii.Error, ValueError):
        text = ""
    if text[:1] != _CURSOR or not all_ids([text[1:]]):
        raise BadCursor(f"{cursor!r} is no cursor of a search; take the one that a page gave, or begin without")
    return text[1:]


def behind(id: str | None) -> str | None:
    """The same of a list that goes on behind an id itself."""
    if id is not None and not all_ids([id]):
        raise BadCursor(f"{id!r} is no place in a list; take the last id that a page gave, or begin without")
    return id


#: qualifier -> what it says
QUALIFIERS: Mapping[str, str] = {
    "id": "a job's id, or the beginning of it",
    "queue": "a queue, or a pattern: billing.*",
    "actor": "the actor's name",
    "state": ", ".join(State),
    "reason": "why it is a dead letter",
    "error": "a part of the error that made it a dead letter",
    "fingerprint": "of a group of failures",
    "worker": "the number of a worker",
    "tag": "a tag of the message",
    "since": "enqueued since: 90s, 15m, 2h, 7d, or a date",
    "until": "enqueued before: the same",
    "args.": "an argument by its name or place: args.customer:42",
}
_TERM = re.compile(r'(?:(?P<name>[A-Za-z][\w.-]*):)?(?P<value>(?:"(?:[^"\\]|\\.)*"|[^\s"])+)')
_AGE = re.compile(r"(\d+(?:\.\d+)?)(s|m|h|d|w)")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def parse(text: str, *, now: datetime | None = None) -> Filter:
    """The filter that a person wrote.  Raises ``BadQuery``, which names what is not understood and the nearest."""
    given: dict[str, list[str]] = {}
    words: list[str] = []
    args: list[tuple[str, str]] = []
    for term in _TERM.finditer(text):
        name, value = term["name"], term["value"]
        if name is None:
            words.append(_unquoted(value))
        elif name.startswith("args.") and len(name) > len("args."):
            args.append((name.removeprefix("args."), _unquoted(value)))
        elif name in QUALIFIERS and not name.endswith("."):
            given.setdefault(name, []).extend(_values(value))
        else:
            raise BadQuery(f"{name}: is no qualifier; {nearest(name, QUALIFIERS)}, or put the words in quotes")
    one = {name: _only(name, given[name]) for name in ("error", "fingerprint", "worker") if name in given}
    moment = now or datetime.now(UTC)
    return Filter(
        states=tuple(_word("state", value, State) for value in given.get("state", ())),
        queues=tuple(given.get("queue", ())),
        actors=tuple(given.get("actor", ())),
        reasons=tuple(_word("reason", value, Reason) for value in given.get("reason", ())),
        fingerprint=one.get("fingerprint", ""),
        error=one.get("error", ""),
        worker=_number(one["worker"]) if "worker" in one else None,
        since=_moment("since", given["since"], moment) if "since" in given else None,
        until=_moment("until", given["until"], moment) if "until" in given else None,
        text=" ".join(words),
        args=tuple(args),
        tags=tuple(given.get("tag", ())),
        ids=tuple(given.get("id", ())),
    )


def nearest(word: str, known: Mapping[str, Any] | type[State] | type[Reason]) -> str:
    names = [str(name) for name in known]
    close = difflib.get_close_matches(word.lower(), names, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"use one of {', '.join(names)}"


def _word(name: str, value: str, kind: Any) -> Any:
    try:
        return kind(value.lower())
    except ValueError:
        raise BadQuery(f"{name}:{value}: there is no such {name}; {nearest(value, kind)}") from None


def _only(name: str, values: list[str]) -> str:
    if len(values) > 1:
        raise BadQuery(f"{name}: takes one value, and was given {len(values)}: {', '.join(values)}")
    return values[0]


def _number(text: str) -> int:
    if not text.isdecimal() or len(text) > 9:
        raise BadQuery(f"worker:{text}: a worker is named by its number; `hareline workers` shows them")
    return int(text)


def _moment(name: str, values: list[str], now: datetime) -> datetime:
    value = _only(name, values)
    if age := _AGE.fullmatch(value):
        try:
            return now - timedelta(seconds=float(age[1]) * _UNITS[age[2]])
        except OverflowError:
            value = f"{value} (too long ago)"
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise BadQuery(f"{name}:{value}: write an age (90s, 15m, 2h, 7d) or a date (2026-11-22T09:30)") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _values(value: str) -> list[str]:
    parts = re.findall(r'(?:"(?:[^"\\]|\\.)*"|[^,"])+', value)
    return [text for part in parts if (text := _unquoted(part))]


def _unquoted(text: str) -> str:
    return re.sub(r'"((?:[^"\\]|\\.)*)"', lambda found: re.sub(r"\\(.)", r"\1", found[1]), text)


def _quoted(text: str, besides: str = ",") -> str:
    """As one value; in quotes where it has a space, a quote, a backslash, or ``besides``."""
    if re.fullmatch(rf"[^\s\"\\{besides}]+", text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _plain(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)

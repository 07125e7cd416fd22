"""What the readers answer with: plain data, ready to be shown.  Times are aware UTC, durations seconds."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from itertools import groupby
from typing import Any, Literal, NamedTuple

from ledger.orders import DOES, Ends, Mode, Wish
from ledger.sealing import masked_all
from ledger.states import FINISHED, Outcome, Reason, State
from ledger.text import clean_json


@dataclass(frozen=True)
class JobRow:
    """One line of a list of jobs."""

    id: str
    message_id: str
    queue: str
    actor: str
    priority: int
    state: State
    reason: Reason | None
    attempts_spent: int
    crashes: int
    created_at: datetime
    run_at: datetime
    finished_at: datetime | None
    archived: bool  #: in history; false: in the hot table


@dataclass(frozen=True)
class DeadRow(JobRow):
    """One dead letter, with the error that ended it."""

    error_type: str | None = None
    error_message: str | None = None


@dataclass(frozen=True)
class AttemptView:
    epoch: int
    number: int | None  #: None when it cost none
    outcome: Outcome
    worker: str
    started_at: datetime
    finished_at: datetime
    run_at: datetime | None  #: when the next one is due
    error_type: str | None
    error_message: str | None
    traceback: str | None


@dataclass(frozen=True)
class JournalRow:
    at: datetime
    event: str
    actor: str  #: who did it
    detail: Mapping[str, Any]


@dataclass(frozen=True)
class ClaimView:
    worker: str
    epoch: int
    started_at: datetime
    suspect: bool


@dataclass(frozen=True)
class ProgressView:
    done: float
    total: float | None
    note: str
    at: datetime


@dataclass(frozen=True)
class CheckpointView:
    state: Any
    size: int  #: bytes
    epoch: int  #: of the attempt that left it
    at: datetime


@dataclass(frozen=True)
class JobStatus:
    """How a job is doing, in short."""

    id: str
    queue: str
    actor: str
    state: State
    reason: Reason | None  #: why it failed
    attempts: int  #: spent so far
    crashes: int
    cancel_requested: bool  #: it runs, and was asked to stop
    created_at: datetime
    due_at: datetime  #: when it is, or last became, due
    finished_at: datetime | None
    error: str | None  #: type and text of the last attempt that had one
    progress: ProgressView | None

    @property
    def ended(self) -> bool:
        """Whether it completed, failed or was cancelled."""
        return self.state in FINISHED


@dataclass(frozen=True)
class ResultMeta:
    size: int  #: bytes
    expires_at: datetime
    read_at: datetime | None


class Moment(NamedTuple):
    """One line of a job's timeline."""

    at: datetime
    event: str
    text: str
    who: str


@dataclass(frozen=True)
class WaitView:
    """What a blocked job waits for."""

    gate: str  #: a limit, or a sequence
    since: datetime
    before: int  #: jobs that come first
    held_by: Sequence[str]  #: ids of the jobs that have to end


@dataclass(frozen=True)
class JobView(JobRow):
    """Everything known of one job."""

    producer: str
    body: bytes  #: the message as sent
    ticket: int
    epoch: int
    charges: int
    cancel_requested: bool
    attempts: Sequence[AttemptView] = ()
    journal: Sequence[JournalRow] = ()
    claim: ClaimView | None = None
    progress: ProgressView | None = None
    checkpoint: CheckpointView | None = None
    result: ResultMeta | None = None
    waits: WaitView | None = None
    holds_back: int = 0  #: jobs of its sequence that wait for it to end
    edited_from: str | None = None  #: the id of the job of which this is a changed copy
    edited_into: Sequence[str] = ()  #: the ids of changed copies of it

    @cached_property
    def message(self) -> Mapping[str, Any] | None:
        """The Dramatiq message as a mapping (args, kwargs, options …); None when the bytes are not one.

        What is encrypted says so, and under which key.
        """
        try:
            decoded = json.loads(self.body)
        except ValueError:
            return None
        return clean_json(masked_all(decoded)) if isinstance(decoded, dict) else None

    def timeline(self) -> list[Moment]:
        """What happened to it, oldest first.  Of a long wait, put off again and again, how it began and ended."""
        told = {row.event for row in self.journal}
        lines: list[Moment] = []
        if not told & {"adopted", "buried"}:
            delayed = not self.attempts and self.run_at > self.created_at
            text = f"for queue {self.queue}" + (f", due {_at(self.run_at)}" if delayed else "")
            lines.append(Moment(self.created_at, "enqueued", text, self.producer))
        for x in self.attempts:
            number = f"attempt {x.number}" if x.number is not None else "an attempt that cost none"
            lines.append(Moment(x.started_at, "claimed", number, x.worker))
            if x.outcome is not Outcome.CRASHED:  # the journal tells it, with whom it charged
                error = ": ".join(part for part in (x.error_type, x.error_message) if part)
                again = f"again {_at(x.run_at)}" if x.run_at else ""
                took = f"after {(x.finished_at - x.started_at).total_seconds():.3f} s"
                lines.append(
                    Moment(x.finished_at, x.outcome.value, ", ".join(filter(None, (took, error, again))), x.worker)
                )
        lines += [Moment(x.at, x.event, _words(x.detail), x.actor) for x in self.journal]
        if self.claim:
            suspect = "as a suspect" if self.claim.suspect else ""
            lines.append(Moment(self.claim.started_at, "claimed", suspect, self.claim.worker))
        return list(_folded(sorted(lines, key=lambda line: line.at)))


def _folded(lines: Iterable[Moment]) -> Iterator[Moment]:
    for passing, run in groupby(lines, key=lambda line: line.event in _PASSING):
        some = list(run)
        if passing and len(some) > 2 * _ENDS:
            first, last = some[_ENDS], some[-_ENDS - 1]
            number = len(some) - 2 * _ENDS
            between = f"{number} lines more like these, until {_at(last.at)}"
            some[_ENDS:-_ENDS] = [Moment(first.at, "and so on", between, "")]
        yield from some


#: What happens to a job over and over while it waits to be let in.
_PASSING = frozenset({"parked", "promoted"})
_ENDS = 4


@dataclass(frozen=True)
class QueueView:
    name: str
    paused: bool
    paused_at: datetime | None
    paused_by: str | None
    counts: Mapping[State, int]
    oldest_waiting_s: float | None  #: how long the oldest due job has waited


@dataclass(frozen=True)
class RuleView:
    """A limit that an operator has changed."""

    rule: str
    count: float  #: starts …
    per_s: float  #: … in so many seconds; 0: so many at once
    burst: int
    changed_at: datetime
    changed_by: str


@dataclass(frozen=True)
class LimitView:
    key: str
    wait_s: float  #: until everything it has let through is paid off


@dataclass(frozen=True)
class GateView:
    """A limit that has let in all it may, or a sequence, for which jobs wait."""

    key: str
    capacity: int
    held_by: Sequence[str]  #: ids of the jobs that have to end
    waiting: int
    since: datetime  #: for so long has the first of them waited


@dataclass(frozen=True)
class CircuitView:
    name: str
    state: Literal["closed", "open", "half-open"]
    since: datetime
    by: str  #: who opened or closed it last, a worker or an operator; empty: nobody yet
    why: str
    open_s: float | None  #: until it half-opens, 0 when it has; None: closed
    openings: int  #: since it was closed
    calls: int  #: that count now …
    failures: int  #: … and how many of them failed
    put_off: int  #: jobs that wait for it to close


@dataclass(frozen=True)
class DutyView:
    """One duty of maintenance, as whoever does it said last."""

    name: str
    holder: str
    every_s: float  #: 0: whenever something may be due
    ago_s: float  #: since it was last begun
    late_s: float  #: at most, of late: after the time it was to begin
    took_s: float  #: at most, of late


@dataclass(frozen=True)
class WorkerView:
    id: int
    host: str
    pid: int
    state: Literal["running", "stopping", "stopped", "dead"]
    queues: Sequence[str]
    threads: int
    version: str
    started_at: datetime
    heartbeat_at: datetime
    stopped_at: datetime | None
    silent_s: float  #: since its last heartbeat
    active: int  #: jobs in its hands
    mode: Mode | None = None  #: what it does, as it said last; None: it has not said
    asked: Wish | None = None  #: what an operator wants of it; done when ``mode`` says so
    asked_at: datetime | None = None
    asked_by: str | None = None
    ends: Ends | None = None  #: what a stop does to it
    master: int | None = None  #: pid of the process that started it with others
    busy: int | None = None  #: threads that ran a job when it said so
    rss: int | None = None  #: bytes of memory, then
    said_s: float | None = None  #: how long ago that was
    slots: Mapping[str, int] = field(default_factory=dict)  #: jobs at once, by queue
    jobs: Sequence["CurrentJob"] = ()  #: in its hands, the oldest first

    @property
    def pending(self) -> bool:
        """Whether it has not yet done what it was asked for."""
        return self.asked is not None and self.mode is not DOES[self.asked] and self.state in ("running", "stopping")


@dataclass(frozen=True)
class CurrentJob:
    """A job in a worker's hands."""

    id: str
    actor: str
    queue: str
    epoch: int
    suspect: bool
    cancel_requested: bool
    claimed_at: datetime
    elapsed_s: float


@dataclass(frozen=True)
class ResultView:
    """What a result backend needs of the newest job with a message id.

    ``missing``: no such job, not finished yet, or its result expired or was not kept.  ``value``: ``body``
    is the result.  ``failure``: it failed or was cancelled; the last error says why.  ``refused``: it completed, and
    the error says why its result was not kept.
    """

    status: Literal["missing", "value", "failure", "refused"]
    state: State | None = None
    body: bytes | None = None
    reason: Reason | None = None
    job: str = ""
    error_type: str | None = None
    error_message: str | None = None


@dataclass(frozen=True)
class Percentiles:
    """Of so many durations, in seconds."""

    count: int = 0
    p50: float = 0.0
    p95: float = 0.0
    p99: float = 0.0
    max: float = 0.0


@dataclass(frozen=True)
class Summary:
    """What happened to the jobs enqueued since a moment."""

    since: datetime
    until: datetime  #: the database's clock when this was read
    states: Mapping[State, int]
    reasons: Mapping[Reason, int]  #: of the failed ones
    outcomes: Mapping[Outcome, int]  #: of their attempts
    actors: Mapping[str, Mapping[State, int]]
    retried: int  #: jobs that needed more than one attempt
    throughput: float  #: jobs finished per second, between the first start and the last finish
    wait: Percentiles = field(default_factory=Percentiles)  #: from due to started, of each finished job's last attempt
    run: Percentiles = field(default_factory=Percentiles)  #: from started to finished, of every attempt


def _at(moment: datetime | None) -> str:
    return moment.isoformat(timespec="milliseconds") if moment else ""


def _words(detail: Mapping[str, Any]) -> str:
    return ", ".join(_word(key, value) for key, value in detail.items())


def _word(key: str, value: object) -> str:
    if key == "charged":
        return "counted against it" if value else "not counted against it"
    return str(value) if key == "why" else f"{key} {value}"

"""What goes into the ledger and what comes back: plain data, the same for every database.

Ids are text (a UUIDv7 in its usual form).  Delays are whole milliseconds, as in Dramatiq, and are
always added to the database's clock, never to this machine's.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from ledger.flows.states import StepEnd
from ledger.states import LIVE, Event, Outcome, Reason, State

#: The most urgent priority.
CRITICAL = 1

#: A hundred years.  A time that no calendar shows (after 9999) would make every list that it is in unreadable.
LONGEST_DELAY_MS = 3_155_760_000_000
#: How long a tick is remembered, in seconds; a schedule that catches up on older ones could send one twice.
TICKS_KEPT_S = 8 * 86_400.0
#: At least so long, in seconds, the rows of workers that are gone, bulk operations that are over and journal
#: lines without a job are kept.
TRACES_KEPT_S = 7 * 86_400.0
#: So many flows that are over are forgotten at once: one may have ten thousand items.
FLOWS_A_TIME = 20
#: When a job expires that a worker has in hand and has not begun, it is looked at again after so long.
EXPIRY_AGAIN_S = 5.0


class Mode(StrEnum):
    """What becomes of a job whose key is held."""

    REJECT = "reject"  #: it is not recorded
    REPLACE = "replace"  #: the holder, if it has not started, becomes it
    THROTTLE = "throttle"  #: it is not recorded; only time frees the key


@dataclass(frozen=True, slots=True)
class Key:
    """Of the jobs with one digest there is to be one.

    A key is held by the job that took it last: while that is in one of ``states``, and in any case for
    ``within_ms`` after it was taken.  Nothing frees a key: who finds it free takes it over.
    """

    digest: str  #: hexadecimal
    mode: Mode = Mode.REJECT
    states: frozenset[State] = LIVE
    within_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """Jobs with one key run one at a time, in the order in which they were recorded."""

    key: str
    rule: str
    hold: bool = False  #: as a dead letter it keeps its successors back


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to be recorded.

    ``id`` decides identity: recording the same id again changes nothing and says so.  ``tick`` is
    (schedule key, fire time); a tick already recorded is a duplicate whatever its id.
    ``served`` says a message for it is already in a worker's hands (an adopted foreign message),
    so no ticket is left for the relay.
    """

    id: str
    message_id: str
    queue: str
    actor: str
    priority: int  #: 1 (critical) to 5 (background)
    body: bytes  #: the Dramatiq message, encoded, as sent
    delay_ms: int = 0
    run_at: datetime | None = None  #: an absolute time; wins over ``delay_ms``
    tick: tuple[str, datetime] | None = None
    producer: str = ""  #: host:pid of the sender
    served: bool = False
    event: Event = Event.ENQUEUED
    key: Key | None = None  #: with one it may be refused, or replace the job that holds it
    line: Line | None = None  #: with one it is recorded as delayed until those before it have ended
    counted: bool = False  #: it belongs to the backlog of its queue until it has ended
    expires_ms: int | None = None  #: counted from when it is due: has it not been claimed by then, it is not run


@dataclass(frozen=True, slots=True)
class Enqueued:
    """The answer to one :class:`NewJob`, in the order they were given.

    With the id of another job: that job holds the key.  Then ``duplicate`` says that nothing was recorded; else
    that job was waiting or delayed, and has become this one.
    """

    id: str
    state: State  #: WAITING or DELAYED; of a duplicate, the state it was recorded with is not told: WAITING
    duplicate: bool = False
    ticket: int = 1
    message_id: str = ""  #: of the job that is there, when that is another


@dataclass(frozen=True, slots=True)
class Buried:
    """A message that can never run, kept as a dead letter."""

    id: str
    message_id: str
    queue: str
    actor: str
    body: bytes
    reason: Reason
    error: str


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a message says of its job."""

    id: str
    ticket: int
    queue: str


class Verdict(StrEnum):
    RUN = "run"
    DROP = "drop"  #: ack it: done, cancelled, stale ticket, or its owner lives
    PARK = "park"  #: ack it: the row went back to the ledger (paused, suspect)
    GONE = "gone"  #: the row is not there; bury the message, never run it


@dataclass(frozen=True, slots=True)
class Claim:
    """The answer to one ticket, or one job taken on the embedded road."""

    id: str
    verdict: Verdict
    why: str = ""  #: for DROP and PARK: "completed", "cancelled", "active", "stale", "paused", "suspect" …
    epoch: int = 0
    attempts: int = 0  #: attempts spent before this one
    crashes: int = 0
    suspect: bool = False  #: a crash is behind it; it runs as the only suspect of its process
    due_at: datetime | None = None  #: when it last became due; not moved by what puts it off before it ran
    ticket: int = 0
    queue: str = ""
    message_id: str = ""
    body: bytes = b""  #: filled by ``take`` only; on RabbitMQ the message carries it
    created_at: datetime | None = None
    sequenced: bool = False  #: it has a place in a line, which its end gives up
    #: The same as ``due_at`` by this machine's monotonic clock: how long ago that was, by the database's.
    due_since: float = field(default=math.inf, compare=False)
    tried: bool = False  #: an attempt was begun before, since it was sent or an operator sent it round again


@dataclass(slots=True)
class Finish:
    """How an attempt ended, and everything that is to commit with it."""

    id: str
    epoch: int
    outcome: Outcome
    reason: Reason | None = None
    error_type: str | None = None
    error_message: str | None = None
    traceback: str | None = None
    delay_ms: int = 0  #: for RETRYING, SNOOZED, PARKED
    result: bytes | None = None  #: JSON
    result_ttl_ms: int = 0
    follow_ups: list[NewJob] = field(default_factory=list)
    group: str | None = None  #: the barrier this job counts down when it completes
    group_jobs: list[NewJob] = field(default_factory=list)  #: recorded when the barrier falls
    gated: bool = False  #: others may be waiting for its end: it has slots, or a place in a line
    circuit: str | None = None  #: of PARKED: it comes back when this circuit closes, or after ``delay_ms``
    step: StepEnd | None = None  #: the step of a flow that this job is: with its end the flow goes on


@dataclass(frozen=True, slots=True)
class Finished:
    """The answer to one :class:`Finish`.

    ``accepted`` is true also when the same finish had been committed before and only its answer was
    lost.  Not accepted: the worker was fenced; the job belongs to another epoch now.
    """

    id: str
    accepted: bool
    state: State | None = None  #: the state it has now, when accepted
    send: "Sequence[NewJob | Due]" = ()  #: what it recorded, or woke, that is due now, for the publisher


@dataclass(frozen=True, slots=True)
class Due:
    """A job whose ticket is to be sent (RabbitMQ), or whose queue's bell is to be rung (embedded)."""

    id: str
    ticket: int
    queue: str
    priority: int
    actor: str = ""
    message_id: str = ""
    body: bytes = b""
    late_s: float = 0.0  #: how long after its due time it was taken


def to_send(jobs: Sequence[NewJob], answers: Sequence[Enqueued]) -> list[NewJob | Due]:
    """Of the jobs just recorded those that are due now, for the road; one that replaced another, as that other."""
    return [
        job
        if answer.id == job.id
        else Due(answer.id, answer.ticket, job.queue, job.priority, job.actor, job.message_id, job.body)
        for job, answer in zip(jobs, answers, strict=True)
        if answer.state is State.WAITING and not answer.duplicate
    ]


def send_with(answers: Sequence[Finished], more: Sequence[Due]) -> list[Finished]:
    """The same answers, the first that was accepted with ``more`` to be sent; is there none, the relay sends it."""
    first = next((n for n, answer in enumerate(answers) if answer.accepted), None)
    if first is None or not more:
        return list(answers)
    told = replace(answers[first], send=(*answers[first].send, *more))
    return [*answers[:first], told, *answers[first + 1 :]]


@dataclass(frozen=True, slots=True)
class Beat:
    """What a worker learns when its heart beats."""

    alive: bool  #: false: it was fenced; its claims are no longer its own
    cancel: frozenset[str] = frozenset()  #: jobs it holds that were asked to stop
    paused: frozenset[str] = frozenset()
    released: int = 0  #: rows it owned but did not hold, given back


@dataclass(frozen=True, slots=True)
class Rescue:
    """What the rescuer did."""

    workers: Sequence[int] = ()
    returned: int = 0
    quarantined: Sequence[str] = ()
    cancelled: int = 0


@dataclass(frozen=True, slots=True)
class DutyReport:
    """How a duty of maintenance goes."""

    name: str
    every_s: float  #: how often it is to be done; 0: whenever something may be due
    ago_s: float  #: since it was last begun
    late_s: float  #: at most, since the report before: after the time it was to begin
    took_s: float  #: at most, since the report before


@dataclass(frozen=True, slots=True)
class Keep:
    """How long a queue's finished jobs stay in the hot table: whichever limit is reached first."""

    completed: int = 100
    completed_s: float = 3600.0
    failed: int = 500
    failed_s: float = 86400.0

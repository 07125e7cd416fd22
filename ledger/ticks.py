"""Ticks of schedules: what is asked of the ledger, and how it is decided.  Pure; the same for both databases."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from ledger.records import Enqueued, NewJob
from ledger.schedules import Overlap
from ledger.states import LIVE, State

#: The lease whose holder sends ticks.
LEASE = "scheduler"


class TickOutcome(StrEnum):
    """What became of a tick; the column ``ticks.outcome``."""

    SENT = "sent"  #: its job is recorded
    DUPLICATE = "duplicate"  #: a job of its kind was there already (option ``unique``)
    SKIPPED = "skipped"  #: the job of the one before had not ended
    WAITING = "waiting"  #: it could not be sent yet, and is tried again
    MISSED = "missed"  #: too late for its schedule's policy, or a newer one took its place
    REFUSED = "refused"  #: its message cannot be sent as the schedule has it


@dataclass(frozen=True, slots=True)
class Tick:
    """One tick to be decided."""

    schedule: str
    revision: int  #: of the schedule, as its sender knows it
    fire_at: datetime
    due_at: datetime
    job: NewJob | None = None  #: with ``tick`` set; without, ``outcome`` says what becomes of it
    overlap: Overlap = Overlap.ALLOW
    outcome: TickOutcome = TickOutcome.SENT
    why: str = ""


@dataclass(frozen=True, slots=True)
class Ticked:
    """The answer to one :class:`Tick`.  ``outcome`` None: nothing was recorded, for the schedule is another one now."""

    outcome: TickOutcome | None
    sent: Enqueued | None = None
    why: str = ""


@dataclass(slots=True)
class ScheduleRow:
    """What is known of a schedule while its row is locked; changed as its ticks are decided."""

    revision: int
    done_until: datetime
    last_job: str | None
    last_state: str | None  #: of that job; None when it is not known any more
    failures: int


def decide(tick: Tick, row: ScheduleRow | None) -> Ticked:
    """What is to become of a tick; of one that is sent, before the ledger has recorded its job."""
    if row is None or row.revision != tick.revision:
        return Ticked(None)
    if tick.fire_at <= row.done_until:
        return Ticked(TickOutcome.DUPLICATE, why="it was decided before")
    if tick.job is not None and row.last_state in LIVE:
        if tick.overlap is Overlap.SKIP:
            return Ticked(TickOutcome.SKIPPED, why=f"job {row.last_job} is {row.last_state}")
        if tick.overlap is Overlap.QUEUE:
            return Ticked(TickOutcome.WAITING, why=f"job {row.last_job} is {row.last_state}")
    return Ticked(tick.outcome, why=tick.why)


def overtaken(ticks: Sequence[Tick], answers: Sequence[Ticked], rows: dict[str, ScheduleRow]) -> dict[str, str]:
    """The jobs that are cancelled for the next tick's, each with its schedule."""
    return {
        row.last_job: tick.schedule
        for tick, answer in zip(ticks, answers, strict=True)
        if tick.overlap is Overlap.CANCEL
        and tick.job is not None
        and answer.outcome is TickOutcome.SENT
        and (row := rows[tick.schedule]).last_job is not None
        and row.last_state in LIVE
    }


def settled(tick: Tick, answer: Ticked, recorded: dict[str, Enqueued]) -> Ticked:
    """The answer, once it is known what the ledger made of its job."""
    if tick.job is None or (sent := recorded.get(tick.job.id)) is None:
        return answer
    if sent.duplicate:
        return Ticked(TickOutcome.DUPLICATE, why=f"job {sent.id} is there" if sent.id != tick.job.id else "")
    return Ticked(TickOutcome.SENT, sent)


def advance(tick: Tick, answer: Ticked, row: ScheduleRow) -> None:
    """Note in the schedule's row that the tick is decided."""
    if answer.outcome is TickOutcome.WAITING:
        return
    row.done_until = max(row.done_until, tick.fire_at)
    if answer.outcome is TickOutcome.SENT and tick.job is not None:
        if row.last_state in (State.FAILED, State.COMPLETED):
            row.failures = row.failures + 1 if row.last_state == State.FAILED else 0
        row.last_job, row.last_state = tick.job.id, State.WAITING

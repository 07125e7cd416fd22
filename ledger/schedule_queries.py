"""What people and the scheduler ask of schedules and their ticks.  Nothing here changes one."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Select, and_, func, select

from errors import BadSchedule
from ledger.engine import Database
from ledger.schedules.schedule import PUNCTUAL_S, Schedule, read
from ledger.schedules.words import words
from ledger.states import State
from ledger.tables import history, jobs, schedules, ticks
from ledger.ticks import TickOutcome

#: So many jobs in a row that failed are no accident.
FAILING = 3
#: A change may be committed so long after the time it bears.
LATE_COMMIT = timedelta(seconds=70)


@dataclass(frozen=True)
class TickView:
    """One tick, and its job as it is now."""

    fire_at: datetime
    outcome: TickOutcome
    why: str
    at: datetime | None  #: when it was decided; None when an operator asked for it
    late_s: float | None
    job: str | None
    state: State | None  #: of its job; None when it had none, or that is forgotten


@dataclass(frozen=True)
class ScheduleView:
    """One schedule as it is kept.  ``schedule`` is None when what is kept cannot be read any more."""

    key: str
    source: str  #: code or data
    actor: str
    words: str
    schedule: Schedule | None
    revision: int
    paused_at: datetime | None
    paused_by: str | None
    left_out: str  #: why the code does not want it now; empty when it does
    changed_at: datetime
    changed_by: str
    done_until: datetime
    next_at: datetime | None
    last: TickView | None
    failures: int  #: jobs in a row
    troubles: Sequence[str]  #: why it is not healthy

    @property
    def state(self) -> str:
        """One word for people."""
        if self.left_out:
            return "left out"
        if self.paused_at is not None:
            return "paused"
        return "active" if self.next_at is not None else "ended"


class ScheduleQueries:
    """Thread-safe; fork-safe; no I/O until the first question.  Every method raises ``LedgerUnavailable``."""

    def __init__(self, url: str) -> None:
        self._database = Database(url)

    def close(self) -> None:
        self._database.close()

    def time(self) -> datetime:
        """The database's clock, now."""
        with self._database.read() as connection:
            return self._database.time(connection)

    def all(self) -> list[ScheduleView]:
        """Every schedule, by key."""
        return list(self._views(_WITH_LAST.order_by(schedules.c.key)))

    def one(self, key: str) -> ScheduleView | None:
        return next(self._views(_WITH_LAST.where(schedules.c.key == key)), None)

    def keys(self) -> list[str]:
        with self._database.read() as connection:
            return list(connection.scalars(select(schedules.c.key).order_by(schedules.c.key)))

    def history(self, key: str, limit: int) -> list[TickView]:
        """Its ticks, newest first."""
        wanted = _TICKS.where(ticks.c.schedule == key).order_by(ticks.c.fire_at.desc()).limit(limit)
        with self._database.read() as connection:
            return [_tick(row) for row in connection.execute(wanted)]

    def to_send(self, since: datetime | None = None) -> tuple[list[tuple[Any, ...]], datetime]:
        """Key, definition, revision, ``wanted`` and ``done_until``, of all or of those changed since; and the time.

        A change is found although it is committed late: the same one is then found more than once.
        """
        wanted = select(
            schedules.c.key,
            schedules.c.definition,
            schedules.c.revision,
            and_(schedules.c.paused_at.is_(None), schedules.c.left_out == "").label("wanted"),
            schedules.c.done_until,
        )
        if since is not None:
            wanted = wanted.where(schedules.c.changed_at > since - LATE_COMMIT)
        with self._database.read() as connection:
            return [tuple(row) for row in connection.execute(wanted)], self._database.time(connection)

    def waiting(self) -> list[tuple[str, datetime]]:
        """The ticks that could not be sent yet, as (schedule, fire time)."""
        wanted = select(ticks.c.schedule, ticks.c.fire_at).where(ticks.c.outcome == TickOutcome.WAITING)
        with self._database.read() as connection:
            return [(schedule, fire_at) for schedule, fire_at in connection.execute(wanted)]

    def _views(self, wanted: Select[Any]) -> Iterator[ScheduleView]:
        with self._database.read() as connection:
            now = self._database.time(connection)
            rows = connection.execute(wanted).all()
            late = dict(
                connection.execute(
                    select(ticks.c.schedule, func.max(ticks.c.why))
                    .where(ticks.c.outcome == TickOutcome.WAITING)
                    .group_by(ticks.c.schedule)
                ).all()
            )
        return (_view(row, now, late.get(row.key)) for row in rows)


_STATE = func.coalesce(jobs.c.state, history.c.state).label("state")
_TICK = (ticks.c.fire_at, ticks.c.outcome, ticks.c.why, ticks.c.at, ticks.c.late_ms, ticks.c.job_id, _STATE)
_TICKS = (
    select(*_TICK)
    .outerjoin(jobs, jobs.c.id == ticks.c.job_id)
    .outerjoin(history, history.c.id == ticks.c.job_id)
)  # fmt: skip
_WITH_LAST = (
    select(schedules, *(column.label(f"tick_{column.name}") for column in _TICK[:-1]), _STATE)
    .outerjoin(ticks, and_(ticks.c.schedule == schedules.c.key, ticks.c.fire_at == schedules.c.done_until))
    .outerjoin(jobs, jobs.c.id == schedules.c.last_job_id)
    .outerjoin(history, history.c.id == schedules.c.last_job_id)
)


def _tick(row: Any, prefix: str = "") -> TickView:
    late_ms = getattr(row, f"{prefix}late_ms")
    return TickView(
        fire_at=getattr(row, f"{prefix}fire_at"),
        outcome=TickOutcome(getattr(row, f"{prefix}outcome")),
        why=getattr(row, f"{prefix}why"),
        at=getattr(row, f"{prefix}at"),
        late_s=None if late_ms is None else late_ms / 1000,
        job=getattr(row, f"{prefix}job_id"),
        state=State(row.state) if row.state and getattr(row, f"{prefix}job_id") else None,
    )


def _view(row: Any, now: datetime, waits: str | None) -> ScheduleView:
    schedule, said = None, ""
    try:
        schedule = read(row.key, row.definition)
        said = words(schedule.timetable)
    except BadSchedule as error:
        troubles = [str(error)]
    else:
        troubles = []
    last = _tick(row, "tick_") if row.tick_fire_at is not None else None
    sends = row.paused_at is None and not row.left_out
    next_at = schedule.timetable.next(row.done_until) if schedule is not None and sends else None
    # The row counts those before the last job; that one may have ended meanwhile.
    failures = row.failures + 1 if row.state == State.FAILED else 0 if row.state == State.COMPLETED else row.failures
    if failures >= FAILING:
        troubles.append(f"its last {failures} jobs failed")
    if waits is not None:
        troubles.append(f"a tick waits: {waits}")
    if last is not None and last.outcome in (TickOutcome.REFUSED, TickOutcome.MISSED):
        troubles.append(f"its last tick was {last.outcome}: {last.why}")
    elif last is not None and (last.late_s or 0) > PUNCTUAL_S:
        troubles.append(f"its last tick was sent {last.late_s:.0f} s late")
    if schedule is not None and next_at is not None:
        overdue_s = (now - schedule.timetable.due(row.key, next_at)).total_seconds()
        if overdue_s > PUNCTUAL_S:
            troubles.append(f"a tick is {overdue_s:.0f} s late; does a scheduler run?")
    return ScheduleView(
        key=row.key,
        source=row.source,
        actor=row.actor,
        words=said,
        schedule=schedule,
        revision=row.revision,
        paused_at=row.paused_at,
        paused_by=row.paused_by,
        left_out=row.left_out,
        changed_at=row.changed_at,
        changed_by=row.changed_by,
        done_until=row.done_until,
        next_at=next_at,
        last=last,
        failures=failures,
        troubles=troubles if sends or schedule is None else (),
    )

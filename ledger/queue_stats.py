"""How every queue does: how much there is of what, how long things take, and when it will be empty."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, Table, func, literal, select

from ledger import finder
from ledger.scope import Scope
from ledger.states import State
from ledger.tables import claims, history, jobs, queues, tallies
from ledger.tally import STEPS, Performance, floor, performance
from ledger.views import Percentiles

#: Of each queue so many unfinished jobs are looked at, the oldest first, and as many finished ones of a kind.
MOST = 100_000
DAY = timedelta(days=1)
#: How fast a queue empties is measured over so long.
PACE = timedelta(minutes=15)
NOTHING = Performance("", 0, 0, 0, 0, 0.0, Percentiles(), Percentiles())


@dataclass(frozen=True)
class QueueStats:
    """One queue.  Durations are seconds; what nothing is known of is None."""

    name: str
    waiting: int
    active: int
    delayed: int
    completed: int  #: at hand and in the history
    failed: int
    total: int  #: of these five
    more: bool  #: a queue this long is not counted to its end: there are at least so many
    paused: bool
    paused_at: datetime | None
    paused_by: str | None
    draining_at: datetime | None  #: since then it takes no new jobs
    draining_by: str | None
    oldest_waiting_s: float | None  #: how long the oldest due job has waited
    completed_24h: int
    failed_24h: int  #: dead letters that were made
    mean_run_s: float | None  #: of the attempts of 24 hours
    p95_run_s: float | None
    mean_wait_s: float | None  #: from due to started, of the jobs that ended in them
    p95_wait_s: float | None
    per_s: float  #: jobs that ended, over the last quarter of an hour
    drain_s: float | None  #: until what waits will have run at that pace; None: nothing ends, or nobody knows


def stats(
    connection: Connection,
    now: datetime,
    scope: Scope,
    *,
    names: Collection[str] = (),
    only: Collection[str] | None = None,
    most: int = MOST,
    times: bool = True,
) -> list[QueueStats]:
    """By name: the queues with jobs, those that operators have changed, and ``names``; or ``only`` some.

    Without ``times`` nothing is known of how long jobs take and how many end.
    However long the queues are, of each no more than ``most`` rows of a kind are read.
    """
    known = {row.name: row for row in connection.execute(select(queues))}
    found = {*names, *known, *finder.queues(connection)} if only is None else only
    active = _active(connection)
    day: Mapping[str, Performance] = {}
    pace: Mapping[str, Performance] = {}
    waited: Mapping[str, float] = {}
    if times:
        day = {x.name: x for x in performance(connection, now - DAY, now, "queue", limit=MOST)}
        pace = {x.name: x for x in performance(connection, now - PACE, now, "queue", limit=MOST)}
        waited = _waited(connection, now - DAY)
    return [
        _stats(
            connection,
            now,
            name,
            known.get(name),
            active.get(name, 0),
            day.get(name, NOTHING),
            waited.get(name, 0.0),
            pace.get(name, NOTHING),
            most,
        )
        for name in sorted(found)
        if scope.admits(name)
    ]


def _stats(
    connection: Connection,
    now: datetime,
    name: str,
    row: Row[Any] | None,
    active: int,
    day: Performance,
    waited_s: float,
    pace: Performance,
    most: int,
) -> QueueStats:
    live, oldest, more = _live(connection, name, most)
    ended = {state: _ended(connection, name, state, most) for state in (State.COMPLETED, State.FAILED)}
    per_s = (pace.completed + pace.failed) / PACE.total_seconds()
    waiting, delayed = live.get(State.WAITING, 0), live.get(State.DELAYED, 0)
    return QueueStats(
        name=name,
        waiting=waiting,
        active=active,
        delayed=delayed,
        completed=ended[State.COMPLETED],
        failed=ended[State.FAILED],
        total=waiting + delayed + active + sum(ended.values()),
        more=more or any(number >= most for number in ended.values()),
        paused=bool(row and row.paused),
        paused_at=row.paused_at if row else None,
        paused_by=row.paused_by if row else None,
        draining_at=row.draining_at if row else None,
        draining_by=row.draining_by if row else None,
        oldest_waiting_s=max(0.0, (now - oldest).total_seconds()) if oldest else None,
        completed_24h=day.completed,
        failed_24h=day.failed,
        mean_run_s=day.mean_s if day.run.count else None,
        p95_run_s=day.run.p95 if day.run.count else None,
        mean_wait_s=waited_s / day.wait.count if day.wait.count else None,
        p95_wait_s=day.wait.p95 if day.wait.count else None,
        per_s=per_s,
        drain_s=0.0 if not waiting else waiting / per_s if per_s and not more else None,
    )


def _waited(connection: Connection, since: datetime) -> Mapping[str, float]:
    """Seconds, in all."""
    asked = select(tallies.c.queue, func.sum(tallies.c.wait_s).label("wait_s"))
    within = (tallies.c.step_s == STEPS[1], tallies.c.at >= floor(since, STEPS[1]))  # as what performance() reads
    return {row.queue: row.wait_s for row in connection.execute(asked.where(*within).group_by(tallies.c.queue))}


def _active(connection: Connection) -> Mapping[str, int]:
    """By way of the claims: there are as many as workers have slots."""
    rows = connection.execute(
        select(jobs.c.queue, func.count().label("number"))
        .select_from(claims)
        .join(jobs, (jobs.c.id == claims.c.job_id) & (jobs.c.epoch == claims.c.epoch))
        .group_by(jobs.c.queue)
    )
    return {row.queue: row.number for row in rows}


def _live(connection: Connection, queue: str, most: int) -> tuple[dict[State, int], datetime | None, bool]:
    """How many are in each state, since when the oldest waits, and whether there are more."""
    some = (
        select(jobs.c.state, jobs.c.run_at)
        .where(jobs.c.queue == queue, jobs.c.finished_at.is_(None))
        .order_by(jobs.c.queue, jobs.c.id)
        .limit(most + 1)
        .subquery()
    )
    rows = connection.execute(
        select(some.c.state, func.count().label("number"), func.min(some.c.run_at).label("oldest")).group_by(
            some.c.state
        )
    ).all()
    oldest = next((row.oldest for row in rows if row.state == State.WAITING), None)
    return {State(row.state): row.number for row in rows}, oldest, sum(row.number for row in rows) > most


def _ended(connection: Connection, queue: str, state: State, most: int) -> int:
    return min(most, sum(_count(connection, table, queue, state, most) for table in (jobs, history)))


def _count(connection: Connection, table: Table, queue: str, state: State, most: int) -> int:
    some = select(literal(1).label("one")).where(table.c.queue == queue, table.c.state == state)
    if table is jobs:  # as the indexes of finished jobs have it
        reason = jobs.c.reason.is_not(None) if state is State.FAILED else jobs.c.reason.is_(None)
        some = some.where(jobs.c.finished_at.is_not(None), reason)
    return connection.scalar(select(func.count()).select_from(some.limit(most).subquery())) or 0

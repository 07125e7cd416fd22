"""How every queue does: how much there is of what, how long things take, and when it will be empty."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import CTE, Connection, Row, ScalarSelect, Text, column, func, literal, select, union_all, values

from ledger import finder, staff
from ledger.backlog import Backlog, backlog, first, reaching
from ledger.scope import Scope
from ledger.search import Bounded
from ledger.states import State
from ledger.tables import claims, history, jobs, queues
from ledger.tally import Performance, performance
from ledger.views import Percentiles

#: Of a queue that is too long to walk over, so many of its oldest jobs are looked at.
MOST = 10_000
#: Where it matters whether there are more of one kind, so many are looked at in all such queues together, if not more.
_FURTHER = 100_000
#: So many completed jobs of a queue are counted; where there are many queues, fewer of each, so many of all together.
_COMPLETED, _COMPLETED_FEW, _COMPLETED_ALL = 10_000, 1_000, 100_000
#: Dead letters further: an operator may want to be told of 50,000.
_DEAD = 100_000
DAY = timedelta(days=1)
#: How fast a queue empties is measured over so long.
PACE = timedelta(minutes=15)
NOTHING = Performance("", 0, 0, 0, 0, 0.0, 0.0, Percentiles(), Percentiles())


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
    more: Sequence[State]  #: what is not counted to its end: there are at least so many
    paused: bool
    paused_at: datetime | None
    paused_by: str | None
    draining_at: datetime | None  #: since then it takes no new jobs
    draining_by: str | None
    oldest_waiting_s: float | None  #: how long the oldest due job has waited
    completed_24h: int
    failed_24h: int  #: jobs that became dead letters, those that are retried or gone by now among them
    mean_run_s: float | None  #: of the attempts of 24 hours
    p95_run_s: float | None
    mean_wait_s: float | None  #: from due to started, of the jobs that ended in them
    p95_wait_s: float | None
    workers: int  #: processes at work that serve it
    per_s: float  #: jobs that ended, over the last quarter of an hour
    drain_s: float | None  #: until what waits will have run at that pace; None: nothing ends, or nobody knows


class _Times(NamedTuple):
    """How long the jobs of a queue take, and how many end."""

    day: Performance = NOTHING
    pace: Performance = NOTHING


def stats(
    connection: Connection,
    now: datetime,
    scope: Scope,
    *,
    names: Collection[str] = (),
    only: Collection[str] | None = None,
    upto: Callable[[str], Mapping[State, int]] = lambda _: {},
) -> list[QueueStats]:
    """By name: the queues with jobs, those that operators have changed, and ``names``; or ``only`` some.

    However long the queues are, the time it takes is bounded: ``more`` says where a count ended.

    Parameters:
      upto: of a queue, how far it matters how many wait or are delayed.  So many of its oldest jobs are looked at, and
        more of them while there are few such queues.
    """
    known = {row.name: row for row in connection.execute(select(queues))}
    found = {*names, *known, *finder.queues(connection)} if only is None else only
    seen = sorted(filter(scope.admits, found))
    undone = backlog(connection, None if only is None and not scope.limited else seen)
    lives = {name: undone.of(name) for name in seen}
    if undone.more:
        lives = {name: live.and_first(first(connection, name, MOST)) for name, live in lives.items()}
        short = [
            (name, state, most)
            for name, live in lives.items()
            if live.more
            for state, most in upto(name).items()
            if live.count(state).count < most
        ]
        share = _FURTHER // max(1, len({name for name, *_ in short}))
        for name, state, most in short:
            walk = max(most, share)
            lives[name] = lives[name].and_first(reaching(connection, name, state, most, walk))
    active, done = _active(connection), ended(connection, seen)
    took, served = _times(connection, now, None if only is None else seen), staff.serving(connection)
    return [
        _stats(
            now,
            name,
            known.get(name),
            lives[name],
            active.get(name, 0),
            done[name],
            took.get(name, _Times()),
            served[name],
        )
        for name in seen
    ]


def _stats(
    now: datetime,
    name: str,
    row: Row[Any] | None,
    live: Backlog,
    active: int,
    ended: Mapping[State, Bounded],
    times: _Times,
    workers: int,
) -> QueueStats:
    counts = {**{state: live.count(state) for state in (State.WAITING, State.DELAYED)}, **ended}
    waiting = counts[State.WAITING].count
    day, pace = times.day, times.pace
    per_s = (pace.completed + pace.failed) / PACE.total_seconds()
    return QueueStats(
        name=name,
        waiting=waiting,
        active=active,
        delayed=counts[State.DELAYED].count,
        completed=counts[State.COMPLETED].count,
        failed=counts[State.FAILED].count,
        total=active + sum(each.count for each in counts.values()),
        more=[state for state, each in counts.items() if each.more],
        paused=bool(row and row.paused),
        paused_at=row.paused_at if row else None,
        paused_by=row.paused_by if row else None,
        draining_at=row.draining_at if row else None,
        draining_by=row.draining_by if row else None,
        oldest_waiting_s=max(0.0, (now - live.oldest).total_seconds()) if live.oldest else None,
        completed_24h=day.completed,
        failed_24h=day.failed,
        mean_run_s=day.mean_s if day.run.count else None,
        p95_run_s=day.run.p95 if day.run.count else None,
        mean_wait_s=day.mean_wait_s if day.wait.count else None,
        p95_wait_s=day.wait.p95 if day.wait.count else None,
        workers=workers,
        per_s=per_s,
        drain_s=0.0 if not waiting else waiting / per_s if per_s and not live.more else None,
    )


def _times(connection: Connection, now: datetime, queues: Sequence[str] | None) -> Mapping[str, _Times]:
    day, pace = (
        {x.name: x for x in performance(connection, now - length, now, "queue", queues=queues, limit=MOST)}
        for length in (DAY, PACE)
    )
    return {name: _Times(day.get(name, NOTHING), pace.get(name, NOTHING)) for name in day.keys() | pace.keys()}


def _active(connection: Connection) -> Mapping[str, int]:
    """By way of the claims: there are as many as workers have slots."""
    rows = connection.execute(
        select(jobs.c.queue, func.count().label("number"))
        .select_from(claims)
        .join(jobs, (jobs.c.id == claims.c.job_id) & (jobs.c.epoch == claims.c.epoch))
        .group_by(jobs.c.queue)
    )
    return {row.queue: row.number for row in rows}


def ended(connection: Connection, names: Sequence[str]) -> Mapping[str, Mapping[State, Bounded]]:
    """How many jobs of each of these queues have completed and failed, at hand and in the history."""
    if not names:
        return {}
    completed = min(_COMPLETED, max(_COMPLETED_FEW, _COMPLETED_ALL // len(names)))
    bounds = {State.COMPLETED: completed, State.FAILED: _DEAD}
    asked = values(column("name", Text), name="asked").data([(name,) for name in names]).cte("asked")
    numbers = (_number(state, asked, most) for state, most in bounds.items())
    return {
        name: {
            state: Bounded(number, number == most)
            for (state, most), number in zip(bounds.items(), counted, strict=True)
        }
        for name, *counted in connection.execute(select(asked.c.name, *numbers))
    }


def _number(state: State, asked: CTE, most: int) -> ScalarSelect[int]:
    # As the indexes of finished jobs have it.
    kind = jobs.c.reason.is_not(None) if state is State.FAILED else jobs.c.reason.is_(None)
    some = [
        select(literal(1).label("one")).where(table.c.queue == asked.c.name, table.c.state == state, *more)
        for table, more in ((history, ()), (jobs, (jobs.c.finished_at.is_not(None), kind)))
    ]
    within = union_all(*(each.correlate(asked) for each in some)).limit(most).subquery()
    return select(func.count()).select_from(within).scalar_subquery()

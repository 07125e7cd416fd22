"""What one page says of everything: how much there is in each state, how fast it goes, what fails, who is there."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, func, select

from ledger import failures as failing
from ledger import queue_reading, tally
from ledger.backlog import Backlog, backlog
from ledger.failures import FailureGroup
from ledger.scope import Scope
from ledger.search import Bounded
from ledger.staff import AT_WORK
from ledger.states import State
from ledger.tables import duties, failures, leases, workers
from ledger.tables import queues as stopped
from ledger.tally import Series
from ledger.views import Percentiles

_DEAD = 100_000
_QUEUES = 12
_TREND, _PARTS = timedelta(hours=1), 30
#: Throughput and latency are of so long.
RECENT = timedelta(minutes=15)


@dataclass(frozen=True)
class Health:
    """Who keeps the promises."""

    workers: int  #: processes at work
    silent: int  #: of them, without a heartbeat for 15 s
    threads: int
    maintenance: str | None  #: who does the duties; None: nobody
    scheduler: str | None
    late_s: float  #: of the duty that is latest
    latest: str  #: its name


@dataclass(frozen=True)
class QueueNow:
    """How a queue stands."""

    name: str
    waiting: Bounded
    running: Bounded
    delayed: Bounded  #: also what failed and is tried again
    dead: Bounded
    paused: bool
    oldest_waiting_s: float | None  #: how long the oldest due job has waited
    trend: Sequence[int]  #: jobs that ended, every two minutes of the last hour, oldest first


@dataclass(frozen=True)
class Overview:
    at: datetime
    waiting: Bounded
    running: Bounded
    delayed: Bounded  #: for the first time; without those that failed and are tried again
    retrying: Bounded
    dead: Bounded
    oldest_waiting_s: float | None  #: how long the oldest due job has waited
    per_s: float  #: jobs that ended, over the last minutes
    run: Percentiles  #: of the last minutes
    wait: Percentiles
    series: Series  #: of the last hour
    failures: Sequence[FailureGroup]  #: the worst of the last 24 hours
    queues: Sequence[QueueNow]  #: a dozen, by name: those with the most that is not done
    health: Health


def overview(connection: Connection, now: datetime, scope: Scope) -> Overview:
    """Of the queues that the scope admits."""
    names = queue_reading.known(connection, scope)
    queues = names if scope.limited else None
    undone, dead = backlog(connection, queues), _dead(connection, queues)
    last = tally.series(connection, now - RECENT, now, 1, queues=queues).points
    return Overview(
        at=now,
        waiting=undone.count(State.WAITING),
        running=undone.count(State.ACTIVE),
        delayed=undone.count(State.DELAYED, tried=False),
        retrying=undone.count(State.DELAYED, tried=True),
        dead=Bounded(min(dead.total(), _DEAD), dead.total() > _DEAD),
        oldest_waiting_s=_age(now, undone.oldest),
        per_s=sum(x.completed + x.failed for x in last) / RECENT.total_seconds(),
        run=last[0].run if last else Percentiles(),
        wait=last[0].wait if last else Percentiles(),
        series=tally.series(connection, now - timedelta(hours=1), now, 60, queues=queues),
        failures=failing.groups(
            connection,
            since=now - timedelta(days=1),
            until=now,
            now=now,
            queues=queues,
            actor=None,
            only=None,
            state="open",
            limit=5,
            buckets=24,
        ),
        queues=_queues(connection, now, names, undone, dead),
        health=_health(connection, now),
    )


def _dead(connection: Connection, queues: Sequence[str] | None) -> Counter[str]:
    """Of each queue, up to a bound for all together."""
    dead = select(failures.c.queue)
    if queues is not None:
        dead = dead.where(failures.c.queue.in_(queues))
    some = dead.limit(_DEAD + 1).subquery()
    rows = connection.execute(select(some.c.queue, func.count().label("number")).group_by(some.c.queue))
    return Counter({row.queue: row.number for row in rows})


def _queues(
    connection: Connection, now: datetime, names: Sequence[str], undone: Backlog, dead: Counter[str]
) -> list[QueueNow]:
    numbers = dead + Counter({name: sum(part.number for part in undone.of(name).parts) for name in names})
    paused = set(connection.scalars(select(stopped.c.name).where(stopped.c.paused)))
    shown = sorted(sorted(names, key=lambda name: (-numbers[name], name))[:_QUEUES])
    until = tally.floor(now, tally.MINUTE_S) + timedelta(minutes=1)
    trends = tally.trends(connection, until - _TREND, until, _PARTS, shown)
    found = []
    for name in shown:
        its = undone.of(name)
        found.append(
            QueueNow(
                name,
                its.count(State.WAITING),
                its.count(State.ACTIVE),
                its.count(State.DELAYED),
                Bounded(dead[name], dead.total() > _DEAD),
                name in paused,
                _age(now, its.oldest),
                trends[name],
            )
        )
    return found


def _age(now: datetime, since: datetime | None) -> float | None:
    return None if since is None else max(0.0, (now - since).total_seconds())


def _health(connection: Connection, now: datetime) -> Health:
    there = connection.execute(
        select(workers.c.heartbeat_at, workers.c.threads).where(workers.c.state.in_(AT_WORK))
    ).all()
    held = {
        row.name: row.holder
        for row in connection.execute(
            select(leases.c.name, leases.c.holder).where(leases.c.expires_at > now).limit(100)
        )
    }
    late = max(
        ((row.late_ms / 1000, row.name) for row in connection.execute(select(duties.c.name, duties.c.late_ms))),
        default=(0.0, ""),
    )
    silent = sum((now - row.heartbeat_at).total_seconds() > 15 for row in there)
    return Health(
        workers=len(there),
        silent=silent,
        threads=sum(row.threads for row in there),
        maintenance=held.get("maintenance"),
        scheduler=held.get("scheduler"),
        late_s=late[0],
        latest=late[1],
    )

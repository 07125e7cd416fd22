"""What one page says of everything: how much there is in each state, how fast it goes, what fails, who is there."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, func, literal, select

from ledger import failures as failing
from ledger import tally
from ledger.backlog import backlog
from ledger.failures import FailureGroup
from ledger.search import Bounded
from ledger.states import State
from ledger.tables import duties, failures, leases, workers
from ledger.tally import Series
from ledger.views import Percentiles

_DEAD = 100_000
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
    health: Health


def overview(connection: Connection, now: datetime, queues: Sequence[str] | None) -> Overview:
    """Of all queues, or of these."""
    parts, more = backlog(connection, queues)

    def number(state: State, *tried: bool) -> Bounded:
        return Bounded(sum(part.number for part in parts if part.state is state and part.tried in tried), more)

    due = [part.due for part in parts if part.state is State.WAITING]
    dead = select(literal(1).label("one")).select_from(failures)
    if queues is not None:
        dead = dead.where(failures.c.queue.in_(queues))
    dead_count = connection.scalar(select(func.count()).select_from(dead.limit(_DEAD + 1).subquery())) or 0
    last = tally.series(connection, now - RECENT, now, 1, queues=queues).points
    return Overview(
        at=now,
        waiting=number(State.WAITING, False, True),
        running=number(State.ACTIVE, False, True),
        delayed=number(State.DELAYED, False),
        retrying=number(State.DELAYED, True),
        dead=Bounded(min(dead_count, _DEAD), dead_count > _DEAD),
        oldest_waiting_s=max(0.0, (now - min(due)).total_seconds()) if due else None,
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
        health=_health(connection, now),
    )


def _health(connection: Connection, now: datetime) -> Health:
    there = connection.execute(
        select(workers.c.heartbeat_at, workers.c.threads).where(workers.c.state.in_(("running", "stopping")))
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

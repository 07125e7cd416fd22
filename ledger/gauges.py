"""How the whole ledger stands, for Prometheus."""

from collections import Counter, defaultdict
from datetime import datetime

from sqlalchemy import Connection, func, select

from ledger import finder
from ledger.circuits import listed
from ledger.engine import Database
from ledger.schedule_queries import ScheduleQueries
from ledger.states import State
from ledger.tables import duties, history, jobs, leases, queues, workers
from metrics.catalogue import (
    CIRCUIT,
    DEPTH,
    DUTY_AGO,
    DUTY_LATE,
    LEADERS,
    LETTERS,
    OLDEST,
    OTHER,
    OVERDUE,
    PAUSED,
    PUT_OFF,
    READ_AT,
    READ_S,
    SILENCE,
    WORKERS,
)
from metrics.meter import MOST, Change

#: What :func:`gauges` says, and the two that say when it was asked.
METRICS = frozenset(
    {CIRCUIT, DEPTH, DUTY_AGO, DUTY_LATE, LEADERS, LETTERS, OLDEST, OVERDUE, PAUSED, PUT_OFF, SILENCE, WORKERS}
    | {READ_AT, READ_S}
)

#: Dead letters in the history are counted up to so many of a queue: its index is read every time.
MOST_DEAD = 10_000

_LEASES = ("maintenance", "scheduler")
_CIRCUIT_STATES = ("closed", "half-open", "open")


def gauges(url: str) -> list[Change]:
    """One look at everything.  Raises ``LedgerUnavailable``.

    It reads the hot table of jobs once, and the dead letters of the history up to a bound.
    """
    database = Database(url)
    schedules = ScheduleQueries(url)
    try:
        with database.read() as connection:
            now = database.time(connection)
            changes = [
                *_queues(connection, now),
                *_circuits(connection, now),
                *_workers(connection, now),
                *_duties(connection, now),
            ]
        late_s = [
            (now - view.schedule.timetable.due(view.key, view.next_at)).total_seconds()
            for view in schedules.all()
            if view.schedule is not None and view.next_at is not None
        ]
        return [*changes, (OVERDUE, (), max([0.0, *late_s]))]
    finally:
        schedules.close()
        database.close()


def _queues(connection: Connection, now: datetime) -> list[Change]:
    depth: Counter[tuple[str, str]] = Counter()
    letters: Counter[tuple[str, str]] = Counter()
    oldest: dict[str, float] = defaultdict(float)
    seen = select(jobs.c.queue, jobs.c.state, jobs.c.reason, func.count(), func.min(jobs.c.run_at))
    rows = list(connection.execute(seen.group_by(jobs.c.queue, jobs.c.state, jobs.c.reason)))
    dead = _buried(connection)
    paused = dict(connection.execute(select(queues.c.name, queues.c.paused)).all())
    names = sorted({row.queue for row in rows} | paused.keys() | {queue for queue, _ in dead})
    named = {name: name if place < MOST else OTHER for place, name in enumerate(names)}
    for queue, state, reason, count, due in rows:
        depth[named[queue], state] += count
        if state == State.FAILED:
            letters[named[queue], reason or ""] += count
        if state == State.WAITING:
            oldest[named[queue]] = max(oldest[named[queue]], (now - due).total_seconds())
    for (queue, reason), count in dead.items():
        letters[named[queue], reason] += count
    known = sorted(set(named.values()))
    return [
        *((DEPTH, (queue, state), float(depth[queue, state])) for queue in known for state in State),
        *((OLDEST, (queue,), oldest[queue]) for queue in known),
        *((PAUSED, (named[queue],), float(bool(paused.get(queue)))) for queue in names if named[queue] != OTHER),
        *((LETTERS, labels, float(count)) for labels, count in letters.items()),
    ]


def _buried(connection: Connection) -> Counter[tuple[str, str]]:
    """Dead letters that retention has moved, where nobody has dealt with them: of each queue up to a bound."""
    found: Counter[tuple[str, str]] = Counter()
    for queue in finder.names(connection, history.c.queue, history):
        dead = select(history.c.reason).where(history.c.queue == queue, history.c.state == State.FAILED)
        reason = dead.limit(MOST_DEAD).subquery().c.reason
        for why, count in connection.execute(select(reason, func.count()).group_by(reason)):
            found[queue, why or ""] = count
    return found


def _circuits(connection: Connection, now: datetime) -> list[Change]:
    changes: list[Change] = []
    for view in listed(connection, now, {})[:MOST]:
        changes.append((PUT_OFF, (view.name,), float(view.put_off)))
        changes += [(CIRCUIT, (view.name, state), float(state == view.state)) for state in _CIRCUIT_STATES]
    return changes


def _workers(connection: Connection, now: datetime) -> list[Change]:
    wanted = select(workers.c.state, func.count(), func.min(workers.c.heartbeat_at)).group_by(workers.c.state)
    found = {row[0]: (row[1], row[2]) for row in connection.execute(wanted)}
    beats = [found[state][1] for state in ("running", "stopping") if state in found]
    silence_s = max([0.0, *((now - beat).total_seconds() for beat in beats)])
    states = ("running", "stopping", "stopped", "dead")
    return [(SILENCE, (), silence_s), *((WORKERS, (state,), float(found.get(state, (0,))[0])) for state in states)]


def _duties(connection: Connection, now: datetime) -> list[Change]:
    changes: list[Change] = []
    for row in connection.execute(select(duties)):
        changes.append((DUTY_LATE, (row.name,), row.late_ms / 1000))
        changes.append((DUTY_AGO, (row.name,), max(0.0, (now - row.at).total_seconds()) + row.ago_ms / 1000))
    held = set(connection.scalars(select(leases.c.name).where(leases.c.expires_at > now)))
    return changes + [(LEADERS, (lease,), float(lease in held)) for lease in _LEASES]

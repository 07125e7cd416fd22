"""Whether anything has changed, told from a few short rows: cheap enough to be asked every second.

For whoever shows the ledger and wants to know when to look again.  What is told is that something may have changed;
it may be told once too often, and of almost any change within a second.
"""

import hashlib
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Select, func, select, text

from ledger.engine import Database
from ledger.staff import AT_WORK
from ledger.tables import (
    attempts,
    circuits,
    claims,
    flows,
    gates,
    jobs,
    journal,
    limits,
    queues,
    schedules,
    tickets,
    ticks,
    workers,
)

#: Of the jobs that wait and of those that run, so many of the oldest and of the newest are looked at.
EDGE = 100


class Topic(StrEnum):
    """What somebody may look at."""

    JOBS = "jobs"
    FAILURES = "failures"
    QUEUES = "queues"
    WORKERS = "workers"
    SCHEDULES = "schedules"
    FLOWS = "flows"
    LIMITS = "limits"
    CIRCUITS = "circuits"
    OPERATIONS = "operations"
    AUDIT = "audit"
    ALERTS = "alerts"


def _edges(wanted: Select[Any], *by: Any) -> list[Select[Any]]:
    return [wanted.order_by(*by).limit(EDGE), wanted.order_by(*(column.desc() for column in by)).limit(EDGE)]


#: What is sent, waits, starts and ends.  A job may have a ticket until it is taken, then a claim, then an attempt; one
#: that was short and is not new is noticed with whatever is next.
_MOVES = [
    select(jobs.c.id).order_by(jobs.c.id.desc()).limit(1),
    select(attempts.c.job_id, attempts.c.epoch).order_by(attempts.c.job_id.desc(), attempts.c.epoch.desc()).limit(EDGE),
    *_edges(select(tickets.c.job_id, tickets.c.ticket), tickets.c.job_id),
    *_edges(select(claims.c.worker_id, claims.c.job_id, claims.c.epoch), claims.c.worker_id, claims.c.job_id),
]
#: Verbs, and what is rare.
_DEEDS = [select(func.max(journal.c.id))]
_WORKERS = [
    select(workers.c.id, workers.c.state, workers.c.queues).where(workers.c.state.in_(AT_WORK)),
    select(func.max(workers.c.id)),
]
_SCHEDULES = [
    select(func.count(), func.sum(schedules.c.revision), func.max(schedules.c.done_until)),
    select(ticks.c.schedule, ticks.c.outcome).order_by(ticks.c.fire_at.desc()).limit(10),
]
_FLOWS = [select(flows.c.id, flows.c.state).order_by(flows.c.id.desc()).limit(EDGE)]
_QUEUES = [select(queues.c.name, queues.c.paused)]
_LIMITS = [select(func.max(limits.c.paid_at)), select(gates.c.key).order_by(gates.c.key).limit(EDGE)]
_CIRCUITS = [select(circuits.c.name, circuits.c.term, circuits.c.counted).order_by(circuits.c.name).limit(EDGE)]

#: Each is asked once, whatever topics need it.
_LOOKS: Mapping[str, Sequence[Select[Any]]] = {
    "moves": _MOVES,
    "deeds": _DEEDS,
    "workers": _WORKERS,
    "schedules": _SCHEDULES,
    "flows": _FLOWS,
    "queues": _QUEUES,
    "limits": _LIMITS,
    "circuits": _CIRCUITS,
}
_OF: Mapping[Topic, tuple[str, ...]] = {
    Topic.JOBS: ("moves", "deeds"),
    Topic.FAILURES: ("moves", "deeds"),
    Topic.QUEUES: ("moves", "deeds", "queues"),
    Topic.WORKERS: ("moves", "workers"),
    Topic.SCHEDULES: ("schedules", "deeds"),
    Topic.FLOWS: ("moves", "flows", "deeds"),
    Topic.LIMITS: ("limits", "deeds"),
    Topic.CIRCUITS: ("circuits", "deeds"),
    Topic.OPERATIONS: ("deeds",),
    Topic.AUDIT: ("deeds",),
    Topic.ALERTS: ("deeds",),
}


class Revisions:
    """Counts, for every topic, how often something has changed since it was made.  For one thread."""

    def __init__(self, url: str) -> None:
        self._database = Database(url)
        self._seen: dict[str, str] = {}
        self._mark: Any = None
        self._counts = dict.fromkeys(Topic, 0)

    def look(self) -> Mapping[Topic, int]:
        """The counts, after another look at the ledger.  Raises ``LedgerUnavailable``."""
        with self._database.read() as connection:
            mark = _mark(connection)
            if mark is not None and mark == self._mark:
                return self._counts
            seen = {name: _digest(connection, looks) for name, looks in _LOOKS.items()}
        changed = {name for name, digest in seen.items() if self._seen.get(name, digest) != digest}
        for topic, names in _OF.items():
            self._counts[topic] += bool(changed & set(names))
        self._seen, self._mark = seen, mark
        return self._counts

    def close(self) -> None:
        """Close idle connections.  Idempotent."""
        self._database.close()


def _mark(connection: Connection) -> Any:
    """The same as before only if nobody has written anything since: then nothing else need be asked."""
    if connection.dialect.name == "sqlite":
        return None  # what SQLite has for it tells of other connections than the one that asks, and this is a new one
    return connection.scalar(text("SELECT pg_current_snapshot()::text"))


def _digest(connection: Connection, looks: Sequence[Select[Any]]) -> str:
    found = hashlib.blake2b(digest_size=16)
    for look in looks:
        for row in connection.execute(look):
            found.update(repr(tuple(row)).encode())
        found.update(b";")
    return found.hexdigest()

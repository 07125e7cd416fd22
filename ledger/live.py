"""How everything stands at one moment, for whoever watches it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, func, select, union_all

from ledger.engine import Database
from ledger.queries import Queries
from ledger.sealing import masked
from ledger.states import Reason, State
from ledger.tables import attempts, claims, history, jobs, workers
from ledger.views import QueueView, WorkerView

#: Over so many seconds the rate of a queue is taken.
RATE_S = 10.0
#: The longest running and the newest failures: so many of each.
MOST = 100


@dataclass(frozen=True)
class RunningRow:
    """A job in a worker's hands."""

    id: str
    actor: str
    queue: str
    attempt: int
    worker: int
    where: str  #: host:pid
    elapsed_s: float


@dataclass(frozen=True)
class FailureRow:
    """A job that failed for good."""

    id: str
    actor: str
    queue: str
    reason: Reason
    error: str
    ago_s: float


@dataclass(frozen=True)
class Moment:
    at: datetime
    queues: Sequence[QueueView]
    rates: Mapping[str, float]  #: jobs that ended, per second, by queue
    workers: Sequence[WorkerView]
    running: Sequence[RunningRow]  #: the longest first
    failures: Sequence[FailureRow]  #: the newest first


class Live:
    """Thread-safe; no I/O until the first question.  Every question raises ``LedgerUnavailable``."""

    def __init__(self, url: str) -> None:
        self._database = Database(url)
        self._queries = Queries(url)

    def close(self) -> None:
        self._queries.close()
        self._database.close()

    def look(self) -> Moment:
        """Reads the hot table of jobs about three times; lists are bounded by :data:`MOST`."""
        queues, at_work = self._queries.queues(), self._queries.workers()
        with self._database.read() as connection:
            now = self._database.time(connection)
            return Moment(
                now,
                queues,
                _rates(connection, now),
                at_work,
                _running(connection, now),
                _failures(connection, now),
            )


def _rates(connection: Connection, now: datetime) -> dict[str, float]:
    since = now - timedelta(seconds=RATE_S)
    ended = union_all(*(select(table.c.queue).where(table.c.finished_at > since) for table in (jobs, history)))
    counted = ended.subquery()
    rows = connection.execute(select(counted.c.queue, func.count()).group_by(counted.c.queue))
    return {queue: count / RATE_S for queue, count in rows}


def _running(connection: Connection, now: datetime) -> list[RunningRow]:
    wanted = (
        select(jobs.c.id, jobs.c.actor, jobs.c.queue, jobs.c.attempts, claims.c.worker_id, claims.c.claimed_at)
        .add_columns(workers.c.host, workers.c.pid)
        .join_from(claims, jobs, jobs.c.id == claims.c.job_id)
        .outerjoin(workers, workers.c.id == claims.c.worker_id)
        .order_by(claims.c.claimed_at)
        .limit(MOST)
    )
    return [
        RunningRow(
            id=row.id,
            actor=row.actor,
            queue=row.queue,
            attempt=row.attempts + 1,
            worker=row.worker_id,
            where=f"{row.host}:{row.pid}" if row.host else "",
            elapsed_s=max(0.0, (now - row.claimed_at).total_seconds()),
        )
        for row in connection.execute(wanted)
    ]


def _failures(connection: Connection, now: datetime) -> list[FailureRow]:
    failed = select(jobs.c.id, jobs.c.actor, jobs.c.queue, jobs.c.reason, jobs.c.finished_at).where(
        jobs.c.finished_at.isnot(None), jobs.c.reason.isnot(None), jobs.c.state == State.FAILED
    )
    rows = connection.execute(failed.order_by(jobs.c.finished_at.desc()).limit(MOST)).all()
    errors = select(attempts.c.job_id, attempts.c.error_type, attempts.c.error_message).where(
        attempts.c.job_id.in_([row.id for row in rows]), attempts.c.error_type.isnot(None)
    )
    said = {
        row.job_id: f"{row.error_type}: {masked(row.error_message or '')}"
        for row in connection.execute(errors.order_by(attempts.c.epoch))
    }
    return [
        FailureRow(
            id=row.id,
            actor=row.actor,
            queue=row.queue,
            reason=Reason(row.reason),
            error=said.get(row.id, ""),
            ago_s=max(0.0, (now - row.finished_at).total_seconds()),
        )
        for row in rows
    ]

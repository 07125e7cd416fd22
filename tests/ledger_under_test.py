"""A ledger with one session and one worker, and a view of its tables: what the ledger's tests work with."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, Table, func, literal_column, select, update
from uuid_utils import uuid7

from ledger import Road, open_ledger
from ledger.engine import Database
from ledger.ledger import Session
from ledger.records import Claim, Finish, Finished, NewJob, Ticket
from ledger.states import Outcome, State
from ledger.tables import APPEND_ONLY, Instant, attempts, claims, jobs, journal, metadata, queues, tickets, workers


def new_job(**changes: Any) -> NewJob:
    job = {
        "id": str(uuid7()),
        "message_id": str(uuid.uuid4()),
        "queue": "q",
        "actor": "act",
        "priority": 3,
        "body": b"{}",
    }
    return NewJob(**{**job, **changes})


@dataclass
class LedgerUnderTest:
    url: str
    road: Road
    publish_after_s: float = 5.0
    synchronous: str = "FULL"
    _close: list[Callable[[], None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.ledger = open_ledger(
            self.url, road=self.road, publish_after_s=self.publish_after_s, synchronous=self.synchronous
        )
        self.database = Database(self.url)
        self._empty()
        self.session = self.new_session()
        self.worker = self.join()

    def new_session(self) -> Session:
        session = self.ledger.session("test")
        self._close.append(session.close)
        return session

    def close(self) -> None:
        for close in self._close:
            close()
        self.database.close()

    def _empty(self) -> None:
        """Tests share a database: a new one for each would cost more than all they do."""
        with self.database.write() as connection:
            for table in (table for table in metadata.sorted_tables if table not in APPEND_ONLY):
                connection.execute(table.delete())

    def join(self) -> int:
        return self.session.join(host="here", pid=42, queues=["q"], threads=4, version="1")

    # -- a job's life
    def enqueue(self, **changes: Any) -> NewJob:
        job = new_job(**changes)
        self.session.enqueue([job])
        return job

    def claim(
        self, *wanted: NewJob, worker: int | None = None, ticket: int | None = None, suspects: int = 1
    ) -> list[Claim]:
        """Claim by each job's present ticket, whatever the road."""
        sent = [Ticket(job.id, ticket or self.row(job)["ticket"], job.queue) for job in wanted]
        return self.session.claim(worker or self.worker, sent, suspects=suspects)

    def active(self, *, worker: int | None = None, **changes: Any) -> tuple[NewJob, int]:
        """A job just claimed, and its epoch."""
        job = self.enqueue(**changes)
        [claim] = self.claim(job, worker=worker)
        assert claim.epoch, claim
        return job, claim.epoch

    def finish(self, job: NewJob, epoch: int, outcome: Outcome, **more: Any) -> Finished:
        [answer] = self.session.finish(self.worker, [Finish(job.id, epoch, outcome, **more)])
        return answer

    def finished(self, outcome: Outcome = Outcome.COMPLETED, **changes: Any) -> NewJob:
        more = {name: changes.pop(name) for name in ("reason", "result", "result_ttl_ms") if name in changes}
        job, epoch = self.active(**changes)
        assert self.finish(job, epoch, outcome, **more).accepted
        return job

    # -- what the tables say
    def rows(self, table: Table, job: NewJob | None = None) -> list[dict[str, Any]]:
        columns = [column if column is not tickets.c.due_at else self._due_at() for column in table.c]
        query = select(*columns).order_by(*table.primary_key)
        if job is not None:
            query = query.where((table.c.id if table is jobs else table.c.job_id) == job.id)
        with self.database.read() as connection:
            return [dict(row._mapping) for row in connection.execute(query)]

    def _due_at(self) -> Any:
        """None stands for "when the queue is resumed"; Python has no infinity of its own."""
        never: ColumnElement[Any] = literal_column(
            str(2**63 - 1) if self.database.sqlite else "'infinity'::timestamptz"
        )
        return func.nullif(tickets.c.due_at, never, type_=Instant()).label("due_at")

    def row(self, job: NewJob) -> dict[str, Any]:
        [row] = self.rows(jobs, job)
        return row

    def state(self, job: NewJob) -> State:
        return State(self.row(job)["state"])

    def ticket(self, job: NewJob) -> dict[str, Any] | None:
        return next(iter(self.rows(tickets, job)), None)

    def attempts(self, job: NewJob) -> list[tuple[int | None, str]]:
        return [(row["number"], row["outcome"]) for row in self.rows(attempts, job)]

    def events(self, job: NewJob) -> list[str]:
        return [row["event"] for row in self.rows(journal, job)]

    # -- what time and operators do
    def change(self, table: Table, job: NewJob, **values: Any) -> None:
        key = table.c.id if table is jobs else table.c.job_id
        with self.database.write() as connection:
            assert connection.execute(update(table).where(key == job.id).values(**values)).rowcount == 1

    def ask_cancel(self, job: NewJob) -> None:
        self.change(jobs, job, cancel_requested=True)

    def pause(self, queue: str, paused: bool = True) -> None:
        with self.database.write() as connection:
            if not connection.execute(update(queues).where(queues.c.name == queue).values(paused=paused)).rowcount:
                connection.execute(queues.insert().values(name=queue, paused=paused))

    def leave_ticket(self, job: NewJob, number: int) -> None:
        """A ticket that is due, whether the job needs one or not."""
        with self.database.write() as connection:
            past = self.database.time(connection) - timedelta(seconds=1)
            connection.execute(tickets.delete().where(tickets.c.job_id == job.id))
            row = {"job_id": job.id, "queue": job.queue, "priority": job.priority, "ticket": number, "ready": False}
            connection.execute(tickets.insert().values(**row, due_at=past))

    def make_due(self, job: NewJob) -> None:
        self.change(tickets, job, due_at=self.now() - timedelta(seconds=1))

    def make_old_claim(self, job: NewJob) -> None:
        self.change(claims, job, claimed_at=self.now() - timedelta(hours=1))

    def silence(self, worker: int) -> None:
        """``worker``'s last heartbeat was an hour ago."""
        with self.database.write() as connection:
            past = self.database.time(connection) - timedelta(hours=1)
            connection.execute(update(workers).where(workers.c.id == worker).values(heartbeat_at=past))

    def now(self) -> Any:
        with self.database.read() as connection:
            return self.database.time(connection)

"""Verbs for queues."""

from sqlalchemy import ColumnElement, exists, func, insert, literal_column, select, update

from control.transaction import Control, Transaction
from control.who import By
from ledger.queries import Queries
from ledger.states import State
from ledger.tables import jobs, queues, tickets
from ledger.views import QueueView


def pause(control: Control, name: str, *, by: By) -> None:
    """Start nothing new of this queue; what runs, finishes.  Idempotent; a queue unknown yet is paused beforehand.

    When it returns, no claim that could still start a job is under way.
    """

    def verb(tx: Transaction) -> None:
        _lock(tx, name)
        _set(tx, name, paused=True)
        tx.note(None, "paused", {"queue": name})

    control.run(verb, by=by)


def resume(control: Control, name: str, *, by: By) -> int:
    """Let the queue go on; returns how many jobs its pause had held back.  Idempotent."""

    def verb(tx: Transaction) -> int:
        _lock(tx, name)
        _set(tx, name, paused=False)
        waits = exists().where(jobs.c.id == tickets.c.job_id, jobs.c.state == State.WAITING)
        held_back = tx.connection.execute(
            update(tickets)
            .where(tickets.c.queue == name, ~tickets.c.ready, tickets.c.due_at == _never(tx))
            .values(due_at=tx.now, ready=waits if tx.embedded else False)
        ).rowcount
        tx.note(None, "resumed", {"queue": name, "jobs": held_back})
        return held_back

    return control.run(verb, by=by)


def listing(queries: Queries) -> list[QueueView]:
    """Every queue, by name."""
    return queries.queues()


def _lock(tx: Transaction, name: str) -> None:
    """Wait for the claims under way: each holds this lock shared.  On SQLite the transaction is the lock."""
    if not tx.sqlite:
        key = func.hashtextextended("hareline.queue." + name, 0)
        tx.connection.execute(select(func.pg_advisory_xact_lock(key)))


def _set(tx: Transaction, name: str, *, paused: bool) -> None:
    known = tx.connection.execute(select(queues.c.paused).where(queues.c.name == name)).one_or_none()
    values = {"paused": paused, "paused_at": tx.now if paused else None, "paused_by": tx.by if paused else None}
    if known is None:
        tx.connection.execute(insert(queues).values(name=name, **values))
    elif known.paused != paused:
        tx.connection.execute(update(queues).where(queues.c.name == name).values(**values))


def _never(tx: Transaction) -> ColumnElement[object]:
    return literal_column(str(2**63 - 1) if tx.sqlite else "'infinity'::timestamptz")

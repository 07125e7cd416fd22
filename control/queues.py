"""Verbs for queues.

pause    start nothing; jobs may come in
drain    let nothing in; what is there runs
resume   both go on
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, TypeAlias

from sqlalchemy import (
    ColumnElement,
    Row,
    Table,
    exists,
    func,
    insert,
    literal,
    literal_column,
    select,
    tuple_,
    update,
)

from control import dead
from control.jobs import remove_all
from control.limits import change_in, restore_in
from control.rows import lock_ids
from control.transaction import Control, Transaction
from control.who import By
from errors import BadInput
from ledger.orders import Knob, rule_of
from ledger.queries import Queries
from ledger.queue_stats import QueueStats
from ledger.states import FINISHED, State
from ledger.tables import history, jobs, queues, tickets
from settings import rate_of

_BATCH: Final = 500  #: jobs in one transaction: their rows are locked until it commits
_Place: TypeAlias = tuple[datetime, str]  #: when a job ended, and its id
_MOST: Final = 1_000_000  #: a number above this is a slip


def pause(control: Control, name: str, *, by: By) -> None:
    """Start nothing new of this queue; what runs, finishes.  Idempotent; a queue unknown yet is paused beforehand.

    When it returns, no claim that could still start a job is under way.
    """

    def verb(tx: Transaction) -> None:
        _lock(tx, name)
        if _set(tx, name, paused=True):
            tx.note(None, "paused", {"queue": name})

    control.run(verb, by=by)


def drain(control: Control, name: str, *, by: By) -> None:
    """Let no new jobs in; everything that is there runs, and is retried.  Idempotent; :func:`resume` ends it.

    A process that sends hears of it within a second; from then on its sends raise ``QueueDraining``, and schedules
    note their ticks as refused.  What follows from a job that is there (steps of a flow, callbacks, what an actor
    with ``atomic_sends`` sends, an operator's retry) is let in: a job that was accepted may end.
    """

    def verb(tx: Transaction) -> None:
        tx.scope.demand(name)
        known = _row(tx, name)
        if known is None or known.draining_at is None:
            _write(tx, name, known is not None, {"draining_at": tx.now, "draining_by": tx.by})
            tx.note(None, "draining", {"queue": name})

    control.run(verb, by=by)


def resume(control: Control, name: str, *, by: By) -> int:
    """Let the queue go on, and new jobs in; returns how many jobs its pause had held back.  Idempotent."""

    def verb(tx: Transaction) -> int:
        _lock(tx, name)
        changed = _set(tx, name, paused=False)
        drains = (queues.c.name == name) & queues.c.draining_at.is_not(None)
        ended = update(queues).where(drains).values(draining_at=None, draining_by=None)
        changed |= tx.connection.execute(ended).rowcount > 0
        waits = exists().where(jobs.c.id == tickets.c.job_id, jobs.c.state == State.WAITING)
        held_back = tx.connection.execute(
            update(tickets)
            .where(tickets.c.queue == name, ~tickets.c.ready, tickets.c.due_at == _never(tx))
            .values(due_at=tx.now, ready=waits if tx.embedded else False)
        ).rowcount
        if changed or held_back:
            tx.note(None, "resumed", {"queue": name, "jobs": held_back})
        return held_back

    return control.run(verb, by=by)


def clean(
    control: Control, name: str, state: State, *, older_than_s: float = 0.0, limit: int | None = None, by: By
) -> int:
    """Remove finished jobs that ended longer ago than that, the oldest first; returns how many.

    In batches, each one transaction with a line in the journal for each job: killed midway, it has removed what it has
    removed.  Raises ``BadInput`` for a state in which a job is not finished.
    """
    if state not in FINISHED:
        raise BadInput(f"only finished jobs are cleaned away (completed, failed, cancelled), not {state}")

    def batch(tx: Transaction, table: Table, room: int, after: _Place | None) -> tuple[int, _Place | None]:
        """How many were removed, and where the next batch begins; None: there is none."""
        tx.scope.demand(name)
        wanted = (
            select(table.c.id, table.c.finished_at)
            .where(table.c.queue == name, table.c.state == state)
            .where(table.c.finished_at <= tx.now - timedelta(seconds=older_than_s))
            .order_by(table.c.finished_at, table.c.id)
            .limit(room)
        )
        if after is not None:
            last = (literal(after[0], table.c.finished_at.type), literal(after[1], table.c.id.type))
            wanted = wanted.where(tuple_(table.c.finished_at, table.c.id) > tuple_(*last))
        if table is jobs:  # as the indexes of finished jobs have it
            reason = jobs.c.reason.is_not(None) if state is State.FAILED else jobs.c.reason.is_(None)
            wanted = wanted.where(jobs.c.finished_at.is_not(None), reason)
        # One that was retried since it was listed is left alone.
        rows = tx.connection.execute(wanted).all()
        locked = [job for job in lock_ids(tx, [row.id for row in rows]) if job.state is state]
        remove_all(tx, locked, "removed")
        return len(locked), (rows[-1].finished_at, rows[-1].id) if len(rows) == room else None

    removed = 0
    for table in (history, jobs):
        after: _Place | None = None
        while (room := _BATCH if limit is None else min(_BATCH, limit - removed)) > 0:
            count, after = control.run(lambda tx, t=table, r=room, a=after: batch(tx, t, r, a), by=by)  # type: ignore[misc]
            removed += count
            if after is None:
                break
    if removed:
        told = {"queue": name, "state": state, "older_than_s": older_than_s, "jobs": removed}
        control.run(lambda tx: tx.note(None, "cleaned", told), by=by)
    return removed


def retry_failed(control: Control, name: str, *, limit: int | None = None, by: By) -> int:
    """Send the dead letters of a queue round again, the oldest first; returns how many."""
    return len(dead.retry(control, queue=name, limit=limit, by=by))


def change(control: Control, name: str, wanted: Mapping[Knob, int | str], *, by: By) -> None:
    """From now on these of the queue are others than the code's, in every process within two seconds.  Idempotent.

    What runs goes on.  ``concurrency`` is per process; ``rate`` is ``"10/s"``; a ``max_running`` where the code has
    none counts what starts from then on, a ``max_waiting`` what is sent from then on.  Raises ``BadInput``; nothing was
    changed then.
    """
    rules = {knob: _rule(knob, value) for knob, value in wanted.items()}

    def verb(tx: Transaction) -> None:
        tx.scope.demand(name)
        for knob, (count, per_s) in sorted(rules.items()):
            change_in(tx, rule_of(knob, name), count, per_s, 1)

    control.run(verb, by=by)


def restore(control: Control, name: str, *knobs: Knob, by: By) -> list[Knob]:
    """Go by the code again, in these or in everything; returns what had been changed."""

    def verb(tx: Transaction) -> list[Knob]:
        tx.scope.demand(name)
        return [knob for knob in sorted(knobs or Knob) if restore_in(tx, rule_of(knob, name))]

    return control.run(verb, by=by)


def stats(queries: Queries, names: Sequence[str] = (), *, only: Sequence[str] | None = None) -> list[QueueStats]:
    """How every queue does, by name; ``names`` are shown also if they have no jobs."""
    return queries.queue_stats(names, only=only)


def _rule(knob: Knob, value: int | str) -> tuple[float, float]:
    """As the ledger keeps it: a count, and for a rate the seconds."""
    try:
        if knob is Knob.RATE:
            return rate_of(str(value).strip())
        number = int(value)
    except ValueError:
        number = 0
        if knob is Knob.RATE:
            raise BadInput(f"{knob} is so many starts in a time: 10/s, 0.5/s, 100/5m, 1000/h; got {value!r}") from None
    if not 1 <= number <= _MOST:
        raise BadInput(f"{knob} is a whole number from 1 to {_MOST:,}; got {value!r}")
    return number, 0.0


def _lock(tx: Transaction, name: str) -> None:
    """Wait for the claims under way: each holds this lock shared.  On SQLite the transaction is the lock.

    Raises ``Denied`` when whoever asks is confined to other queues.
    """
    tx.scope.demand(name)
    if not tx.sqlite:
        key = func.hashtextextended("hareline.queue." + name, 0)
        tx.connection.execute(select(func.pg_advisory_xact_lock(key)))


def _set(tx: Transaction, name: str, *, paused: bool) -> bool:
    """Whether that is a change."""
    known = _row(tx, name)
    if paused == (known is not None and bool(known.paused)):
        return False
    values = {"paused": paused, "paused_at": tx.now if paused else None, "paused_by": tx.by if paused else None}
    _write(tx, name, known is not None, values)
    return True


def _row(tx: Transaction, name: str) -> Row[Any] | None:
    return tx.connection.execute(select(queues).where(queues.c.name == name).with_for_update()).one_or_none()


def _write(tx: Transaction, name: str, known: bool, values: Mapping[str, Any]) -> None:
    if known:
        tx.connection.execute(update(queues).where(queues.c.name == name).values(**values))
    else:
        tx.connection.execute(insert(queues).values(name=name, **values))


def _never(tx: Transaction) -> ColumnElement[object]:
    return literal_column(str(2**63 - 1) if tx.sqlite else "'infinity'::timestamptz")

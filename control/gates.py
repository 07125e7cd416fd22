"""What a verb on one job means for those that wait for it, or that it waits for."""

from collections.abc import Sequence

from sqlalchemy import delete, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from control.transaction import Transaction
from errors import IllegalTransition
from ledger.states import State
from ledger.tables import blocked, gates, jobs, lines, slots


def leave(tx: Transaction, ids: Sequence[str]) -> None:
    """They are cancelled: nobody waits for them, and they wait for nobody."""
    keys = _keys(tx, ids)
    tx.connection.execute(delete(blocked).where(blocked.c.job_id.in_(ids)))
    tx.connection.execute(update(lines).where(lines.c.job_id.in_(ids)).values(open=False))
    _look(tx, keys)


def forget(tx: Transaction, ids: Sequence[str]) -> None:
    """They are removed, with their places."""
    keys = _keys(tx, ids)
    for table in (blocked, slots, lines):
        tx.connection.execute(delete(table).where(table.c.job_id.in_(ids)))
    _look(tx, keys)


def demand_turn(tx: Transaction, job: str, state: State) -> None:
    """Raise ``IllegalTransition`` for a delayed job that stands in line: its turn comes."""
    if state is not State.DELAYED:
        return
    line = tx.connection.execute(select(lines).where(lines.c.job_id == job)).one_or_none()
    if line is not None and not (line.open and line.called):
        raise IllegalTransition(
            f"job {job} waits for its turn in {line.key}; see what is before it: hareline limits ls"
        )


def turns(tx: Transaction, ids: Sequence[str]) -> set[str]:
    """Which of these jobs, sent round again, may go at once; the others are called when their turn has come.

    A dead letter that kept its place is first in line.  Any other joins at the end.
    """
    tx.connection.execute(delete(blocked).where(blocked.c.job_id.in_(ids)))
    standing = tx.connection.execute(select(lines).where(lines.c.job_id.in_(ids)).order_by(lines.c.job_id)).all()
    if standing:
        sequenced = [line.job_id for line in standing]
        tx.connection.execute(update(jobs).where(jobs.c.id.in_(sequenced)).values(sequenced=True))
    at_once = set(ids)
    for line in standing:
        if line.open and line.called:
            continue
        at_once.discard(line.job_id)
        if not line.open:
            tx.connection.execute(delete(lines).where(lines.c.job_id == line.job_id))
            again = {"key": line.key, "job_id": line.job_id, "hold": line.hold}
            tx.connection.execute(insert(lines).values(**again, called=False, open=True, since=tx.now))
    for key in sorted({line.key for line in standing if line.job_id not in at_once}):
        gate = {"key": key, "rule": key.partition("=")[0], "capacity": 1, "look": True}
        made = (sqlite if tx.sqlite else postgresql).insert(gates).values(**gate)
        tx.connection.execute(made.on_conflict_do_update(index_elements=["key"], set_={"look": True}))
    return at_once


def look_at_rule(tx: Transaction, rule: str) -> None:
    """Its capacity has changed."""
    tx.connection.execute(update(gates).where(gates.c.rule == rule).values(look=True))


def _keys(tx: Transaction, ids: Sequence[str]) -> list[str]:
    held = (select(table.c.gate).where(table.c.job_id.in_(ids)) for table in (slots, blocked))
    in_line = select(lines.c.key).where(lines.c.job_id.in_(ids), lines.c.open)
    return [key for wanted in (*held, in_line) for key in tx.connection.scalars(wanted)]


def _look(tx: Transaction, keys: list[str]) -> None:
    """Have these gates tended.  One that is locked is left to the survey: who holds it may want this job's row."""
    if keys:
        free = select(gates.c.key).where(gates.c.key.in_(keys)).order_by(gates.c.key).with_for_update(skip_locked=True)
        tx.connection.execute(update(gates).where(gates.c.key.in_(list(tx.connection.scalars(free)))).values(look=True))

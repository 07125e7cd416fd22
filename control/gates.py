"""What a verb on one job means for those that wait for it, or that it waits for."""

from sqlalchemy import delete, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from control.transaction import Transaction
from errors import IllegalTransition
from ledger.states import State
from ledger.tables import blocked, gates, jobs, lines, slots


def leave(tx: Transaction, job: str) -> None:
    """It is cancelled: nobody waits for it, and it waits for nobody."""
    keys = _keys(tx, job)
    tx.connection.execute(delete(blocked).where(blocked.c.job_id == job))
    tx.connection.execute(update(lines).where(lines.c.job_id == job).values(open=False))
    _look(tx, keys)


def forget(tx: Transaction, job: str) -> None:
    """It is removed, with its place."""
    keys = _keys(tx, job)
    for table in (blocked, slots, lines):
        tx.connection.execute(delete(table).where(table.c.job_id == job))
    _look(tx, keys)


def turn(tx: Transaction, job: str, state: State) -> bool:
    """Whether a job that is sent round again may go at once; else it is called when its turn has come.

    A dead letter that kept its place is first in line.  Any other joins at the end.  Raises ``IllegalTransition`` for
    one that stands in line.
    """
    tx.connection.execute(delete(blocked).where(blocked.c.job_id == job))
    line = tx.connection.execute(select(lines).where(lines.c.job_id == job)).one_or_none()
    if line is None:
        return True
    tx.connection.execute(update(jobs).where(jobs.c.id == job).values(sequenced=True))
    if line.open and line.called:
        return True
    if state is State.DELAYED:
        raise IllegalTransition(
            f"job {job} waits for its turn in {line.key}; see what is before it: hareline limits ls"
        )
    if not line.open:
        tx.connection.execute(delete(lines).where(lines.c.job_id == job))
        again = {"key": line.key, "job_id": job, "hold": line.hold, "called": False, "open": True, "since": tx.now}
        tx.connection.execute(insert(lines).values(**again))
    gate = {"key": line.key, "rule": line.key.partition("=")[0], "capacity": 1, "look": True}
    made = (sqlite if tx.sqlite else postgresql).insert(gates).values(**gate)
    tx.connection.execute(made.on_conflict_do_update(index_elements=["key"], set_={"look": True}))
    return False


def look_at_rule(tx: Transaction, rule: str) -> None:
    """Its capacity has changed."""
    tx.connection.execute(update(gates).where(gates.c.rule == rule).values(look=True))


def _keys(tx: Transaction, job: str) -> list[str]:
    held = (select(table.c.gate).where(table.c.job_id == job) for table in (slots, blocked))
    in_line = select(lines.c.key).where(lines.c.job_id == job, lines.c.open)
    return [key for wanted in (*held, in_line) for key in tx.connection.scalars(wanted)]


def _look(tx: Transaction, keys: list[str]) -> None:
    """Have these gates tended.  One that is locked is left to the survey: who holds it may want this job's row."""
    if keys:
        free = select(gates.c.key).where(gates.c.key.in_(keys)).order_by(gates.c.key).with_for_update(skip_locked=True)
        tx.connection.execute(update(gates).where(gates.c.key.in_(list(tx.connection.scalars(free)))).values(look=True))

"""Verbs for circuit breakers."""

from collections.abc import Callable, Mapping

from sqlalchemy import insert, select, update

from control.transaction import Control, Transaction
from control.who import By
from ledger.breaker import Breaker, closed, held
from ledger.instants import from_micros, to_micros
from ledger.queries import Queries
from ledger.tables import circuits
from ledger.views import CircuitView


def hold_open(control: Control, name: str, for_s: float, *, by: By) -> None:
    """Let no job that uses this circuit start for so long; then jobs probe, as after any opening."""

    def verb(tx: Transaction) -> None:
        now, length = to_micros(tx.now), round(for_s * 1_000_000)
        was = _change(tx, name, lambda breaker: held(breaker, now, length, "an operator opened it"))
        tx.note(None, "circuit opened", {"circuit": name, "for_s": for_s, "was": _words(was)})

    control.run(verb, by=by)


def close(control: Control, name: str, *, by: By) -> bool:
    """Let jobs start again, and forget what was counted; false when it was closed.  Those put off come back."""

    def verb(tx: Transaction) -> bool:
        row = tx.connection.execute(select(circuits).where(circuits.c.name == name).with_for_update()).one_or_none()
        if row is None or (row.until is None and not row.counted):
            return False
        was = _change(tx, name, lambda breaker: closed(breaker, "an operator closed it"))
        tx.note(None, "circuit closed", {"circuit": name, "was": _words(was)})
        return was.until is not None

    return control.run(verb, by=by)


def listing(queries: Queries, within: Mapping[str, int]) -> list[CircuitView]:
    """How all circuits stand; ``within`` are the windows in which those of the code count calls, in microseconds."""
    return queries.circuits(within)


def _words(was: Breaker) -> str:
    return "closed" if was.until is None else f"open until {from_micros(was.until).isoformat(' ', 'seconds')}"


def _change(tx: Transaction, name: str, change: Callable[[Breaker], Breaker]) -> Breaker:
    """The circuit as it was."""
    row = tx.connection.execute(select(circuits).where(circuits.c.name == name).with_for_update()).one_or_none()
    was = Breaker()
    if row is None:
        tx.connection.execute(insert(circuits).values(name=name, since=tx.now))
    else:
        was = Breaker(row.term, None if row.until is None else to_micros(row.until))
    now = change(was)
    tx.connection.execute(
        update(circuits)
        .where(circuits.c.name == name)
        .values(
            term=now.term,
            until=None if now.until is None else from_micros(now.until),
            length_us=now.length,
            openings=now.openings,
            counted="",
            why=now.why,
            since=tx.now,
            changed_by=tx.by,
        )
    )
    return was

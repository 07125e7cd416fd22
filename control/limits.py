"""Verbs for limits: rates, and how many may run at once."""

from sqlalchemy import delete, insert, select

from control.gates import look_at_rule
from control.transaction import Control, Transaction
from control.who import By
from ledger.orders import knob_of
from ledger.queries import Queries
from ledger.tables import limit_rules, limits
from ledger.views import GateView, LimitView, RuleView


def change(control: Control, rule: str, count: float, per_s: float, burst: int, *, by: By) -> None:
    """From now on this rule's limits are others than the code's: so many starts in a time.  Idempotent.

    Starts reserved before stay where they are.  With ``per_s`` 0 it is how many may run at once: blocked jobs are let
    in at once if there is room for more, and what runs goes on if there is room for less.
    """

    control.run(lambda tx: change_in(tx, rule, count, per_s, burst), by=by)


def change_in(tx: Transaction, rule: str, count: float, per_s: float, burst: int) -> None:
    """The same, as a part of something larger."""
    was, now = _changed(tx, rule), {"count": float(count), "per_s": float(per_s), "burst": burst}
    if was == now:
        return
    tx.connection.execute(delete(limit_rules).where(limit_rules.c.rule == rule))
    tx.connection.execute(
        insert(limit_rules).values(
            rule=rule, count=count, per_s=per_s, burst=burst, changed_at=tx.now, changed_by=tx.by
        )
    )
    look_at_rule(tx, rule)
    tx.note(None, "limit changed", {**_named(rule), **now, "was": was or "the code's"})


def restore(control: Control, rule: str, *, by: By) -> bool:
    """Go by the code again; false when nothing was changed."""

    return control.run(lambda tx: restore_in(tx, rule), by=by)


def restore_in(tx: Transaction, rule: str) -> bool:
    """The same, as a part of something larger."""
    was = _changed(tx, rule)
    if was is None:
        return False
    tx.connection.execute(delete(limit_rules).where(limit_rules.c.rule == rule))
    look_at_rule(tx, rule)
    tx.note(None, "limit restored", {**_named(rule), "was": was})
    return True


def _named(rule: str) -> dict[str, str]:
    """The rule, and the queue where it is one of a queue."""
    found = knob_of(rule)
    return {"rule": rule} | ({"queue": found[1]} if found else {})


def _changed(tx: Transaction, rule: str) -> dict[str, float] | None:
    """What an operator made it; None: it is the code's."""
    row = tx.connection.execute(select(limit_rules).where(limit_rules.c.rule == rule).with_for_update()).one_or_none()
    return None if row is None else {name: row._mapping[name] for name in ("count", "per_s", "burst")}


def release(control: Control, key: str, *, by: By) -> bool:
    """Forget what a limit has let through, and any order to be quiet; false when it had nothing to wait for."""

    def verb(tx: Transaction) -> bool:
        waits = (limits.c.key == key) & (limits.c.paid_at > tx.now)
        if not tx.connection.execute(delete(limits).where(waits)).rowcount:
            return False
        tx.note(None, "limit released", {"key": key})
        return True

    return control.run(verb, by=by)


def listing(queries: Queries, most: int) -> tuple[list[RuleView], list[LimitView], list[GateView]]:
    """The rules operators have changed, the rates with the longest to wait, the gates with the most waiting."""
    return queries.changed_rules(), queries.limits(most), queries.gates(most)

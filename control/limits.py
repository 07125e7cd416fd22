"""Verbs for rate limits."""

from sqlalchemy import delete, insert

from control.transaction import Control, Transaction
from ledger.queries import Queries
from ledger.tables import limit_rules, limits
from ledger.views import LimitView, RuleView


def change(control: Control, rule: str, count: float, per_s: float, burst: int, *, by: str) -> None:
    """From now on reserve starts of this rule's limits at another rate than the code's.  Idempotent.

    Slots reserved before stay where they are.
    """

    def verb(tx: Transaction) -> None:
        tx.connection.execute(delete(limit_rules).where(limit_rules.c.rule == rule))
        tx.connection.execute(
            insert(limit_rules).values(
                rule=rule, count=count, per_s=per_s, burst=burst, changed_at=tx.now, changed_by=tx.by
            )
        )
        tx.note(None, "limit changed", {"rule": rule, "count": count, "per_s": per_s, "burst": burst})

    control.run(verb, by=by)


def restore(control: Control, rule: str, *, by: str) -> bool:
    """Go by the code again; false when nothing was changed."""

    def verb(tx: Transaction) -> bool:
        if not tx.connection.execute(delete(limit_rules).where(limit_rules.c.rule == rule)).rowcount:
            return False
        tx.note(None, "limit restored", {"rule": rule})
        return True

    return control.run(verb, by=by)


def release(control: Control, key: str, *, by: str) -> bool:
    """Forget what a limit has let through, and any order to be quiet; false when it had nothing to wait for."""

    def verb(tx: Transaction) -> bool:
        waits = (limits.c.key == key) & (limits.c.paid_at > tx.now)
        if not tx.connection.execute(delete(limits).where(waits)).rowcount:
            return False
        tx.note(None, "limit released", {"key": key})
        return True

    return control.run(verb, by=by)


def listing(queries: Queries, most: int) -> tuple[list[RuleView], list[LimitView]]:
    """The rules operators have changed, by name, and the limits that have the longest to wait."""
    return queries.changed_rules(), queries.limits(most)

"""Verbs for migrations from synchronous code: how much becomes a job as well, who does the work, what was found."""

import math
from typing import Any

from sqlalchemy import delete, select, update

from control.transaction import Control, Transaction
from control.who import By
from errors import BadInput, NotFound, nearest
from ledger.dual import DifferenceView, DualWriteView, Mode, Standing
from ledger.queries import Queries
from ledger.tables import dual_differences, dual_pairs, dual_writes


def set_share(control: Control, name: str, share: float, *, by: By) -> Standing:
    """From now on this part of the calls is sent as well, in mode dual; how it is set then.  Idempotent.

    Raises ``BadInput`` for what is no part, and ``NotFound``.
    """
    if not math.isfinite(share) or not 0 <= share <= 1:
        raise BadInput(f"a share is a part of the calls, from 0 to 1, got {share:g}; 0.25 is a quarter of them")
    return control.run(lambda tx: _change(tx, name, "share", share), by=by)


def set_mode(control: Control, name: str, mode: str, *, by: By) -> Standing:
    """From now on the work is done by the synchronous code, by both, or by jobs alone; how it is set then.  Idempotent.

    Raises ``BadInput`` for what is no mode, and ``NotFound``.
    """
    if mode not in list(Mode):
        raise BadInput(f"there is no mode {mode!r}; {nearest(mode, Mode)}")
    return control.run(lambda tx: _change(tx, name, "mode", mode), by=by)


def reset(control: Control, name: str, *, by: By) -> None:
    """Count anew from zero, and forget the differences; what waits to be compared is compared.  Raises ``NotFound``."""

    def verb(tx: Transaction) -> None:
        _locked(tx, name)
        counts: dict[str, Any] = dict.fromkeys(("sent", "equal", "different", "missing", "errors"), 0)
        tx.connection.execute(
            update(dual_writes).where(dual_writes.c.name == name).values(**counts, trouble="", trouble_at=None)
        )
        tx.connection.execute(delete(dual_differences).where(dual_differences.c.name == name))
        tx.note(None, "migration reset", {"migration": name})

    control.run(verb, by=by)


def forget(control: Control, name: str, *, by: By) -> None:
    """Remove all that is kept of it; one that the code still has begins anew, as declared.  Raises ``NotFound``."""

    def verb(tx: Transaction) -> None:
        _locked(tx, name)
        for table in (dual_writes, dual_pairs, dual_differences):
            tx.connection.execute(delete(table).where(table.c.name == name))
        tx.note(None, "migration forgotten", {"migration": name})

    control.run(verb, by=by)


def report(queries: Queries) -> list[DualWriteView]:
    """How all of them go, by name."""
    return queries.dual_writes()


def differences(queries: Queries, name: str, most: int) -> list[DifferenceView]:
    """The last calls of one whose two results differed, the newest first.  Raises ``NotFound``."""
    found = queries.dual_differences(name, most)
    if not found:
        _demand(name, [view.name for view in queries.dual_writes()])
    return found


def _change(tx: Transaction, name: str, what: str, value: float | str) -> Standing:
    was = _locked(tx, name)
    if getattr(was, what) != value:
        changes = {what: value, "changed_at": tx.now, "changed_by": tx.by}
        tx.connection.execute(update(dual_writes).where(dual_writes.c.name == name).values(**changes))
        tx.note(None, f"migration {what} changed", {"migration": name, what: value, "was": getattr(was, what)})
    return _locked(tx, name)


def _locked(tx: Transaction, name: str) -> Standing:
    w = dual_writes.c
    row = tx.connection.execute(select(w.mode, w.share).where(w.name == name).with_for_update()).one_or_none()
    if row is None:
        _demand(name, list(tx.connection.scalars(select(w.name))))
        raise AssertionError("it was there by then")
    return Standing(Mode(row.mode), row.share)


def _demand(name: str, known: list[str]) -> None:
    if name not in known:
        raise NotFound(
            f"no migration is named {name!r}; {nearest(name, known)} (one is known once its function has been called)"
        )

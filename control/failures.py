"""Verbs for groups of failures."""

from datetime import timedelta
from typing import Any

from sqlalchemy import Row, func, select, update

from control.transaction import Control, Transaction
from control.who import By
from errors import JobNotFound
from ledger.tables import failure_groups, failures

#: For so long at most a group is hidden.
LONGEST_S = 366 * 86_400.0


def acknowledge(control: Control, fingerprint: str, *, by: By) -> None:
    """It is known: hide the group until it fails anew.  Idempotent.  Raises ``JobNotFound``."""

    def verb(tx: Transaction) -> None:
        known = _known(tx, fingerprint)
        last = tx.connection.scalar(select(func.max(failures.c.at)).where(failures.c.fingerprint == fingerprint))
        if known.acknowledged_at is not None and (last is None or last <= known.acknowledged_at):
            return
        _change(tx, fingerprint, acknowledged_at=tx.now, acknowledged_by=tx.by, snoozed_until=None)
        tx.note(None, "failure acknowledged", {"fingerprint": fingerprint})

    control.run(verb, by=by)


def snooze(control: Control, fingerprint: str, for_s: float, *, by: By) -> None:
    """Hide the group for so long, whatever fails meanwhile; 0: show it again.  Raises ``JobNotFound``."""

    def verb(tx: Transaction) -> None:
        known = _known(tx, fingerprint)
        hidden = known.acknowledged_at is not None or (known.snoozed_until is not None and known.snoozed_until > tx.now)
        if not hidden and for_s <= 0:
            return
        until = tx.now + timedelta(seconds=min(max(0.0, for_s), LONGEST_S))
        _change(tx, fingerprint, acknowledged_at=None, acknowledged_by=tx.by, snoozed_until=until)
        tx.note(None, "failure snoozed", {"fingerprint": fingerprint, "for_s": for_s})

    control.run(verb, by=by)


def _known(tx: Transaction, fingerprint: str) -> Row[Any]:
    here = select(failure_groups).where(failure_groups.c.fingerprint == fingerprint).with_for_update()
    if (row := tx.connection.execute(here).one_or_none()) is None:
        raise JobNotFound(f"there is no group of failures {fingerprint!r}; `hareline failures ls` shows them")
    return row


def _change(tx: Transaction, fingerprint: str, **values: object) -> None:
    tx.connection.execute(update(failure_groups).where(failure_groups.c.fingerprint == fingerprint).values(**values))

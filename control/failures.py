"""Verbs for groups of failures."""

from datetime import timedelta

from sqlalchemy import select, update

from control.transaction import Control, Transaction
from control.who import By
from errors import JobNotFound
from ledger.tables import failure_groups

#: For so long at most a group is hidden.
LONGEST_S = 366 * 86_400.0


def acknowledge(control: Control, fingerprint: str, *, by: By) -> None:
    """It is known: hide the group until it fails anew.  Idempotent.  Raises ``JobNotFound``."""

    def verb(tx: Transaction) -> None:
        _change(tx, fingerprint, acknowledged_at=tx.now, acknowledged_by=tx.by, snoozed_until=None)
        tx.note(None, "failure acknowledged", {"fingerprint": fingerprint})

    control.run(verb, by=by)


def snooze(control: Control, fingerprint: str, for_s: float, *, by: By) -> None:
    """Hide the group for so long, whatever fails meanwhile; 0: show it again.  Raises ``JobNotFound``."""

    def verb(tx: Transaction) -> None:
        until = tx.now + timedelta(seconds=min(max(0.0, for_s), LONGEST_S))
        _change(tx, fingerprint, acknowledged_at=None, acknowledged_by=tx.by, snoozed_until=until)
        tx.note(None, "failure snoozed", {"fingerprint": fingerprint, "for_s": for_s})

    control.run(verb, by=by)


def _change(tx: Transaction, fingerprint: str, **values: object) -> None:
    here = failure_groups.c.fingerprint == fingerprint
    if tx.connection.scalar(select(failure_groups.c.fingerprint).where(here).with_for_update()) is None:
        raise JobNotFound(f"there is no group of failures {fingerprint!r}; `hareline failures ls` shows them")
    tx.connection.execute(update(failure_groups).where(here).values(**values))

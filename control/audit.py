"""Verbs for the audit trail, which are in it themselves."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import delete, func, insert, select

from control.transaction import Control, Transaction
from control.who import By
from errors import IllegalTransition
from ledger.audit import Deed, Result
from ledger.tables import audit, audit_anchors


def put_down(
    control: Control,
    operation: str,
    target: Mapping[str, Any] | None = None,
    *,
    result: Result = "done",
    why: str = "",
    by: By,
) -> None:
    """Put down what changes nothing of jobs: a login, what was refused, what was shown in clear."""
    change = [{"why": why}] if why else []
    count = 1 if result == "done" else 0
    control.run(lambda tx: tx.deeds.append(Deed(operation, target or {}, count, change, result)), by=by)


def truncate(control: Control, before: datetime, *, by: By) -> int:
    """Cut off the entries older than that; how many.  The last one always stays.

    An anchor with the hash of the last one that went stays for good, and so does the entry about it, until it is cut
    off by another.  Export them first (``hareline audit export``): they are gone.  Raises ``IllegalTransition`` when
    the chain does not hold where it would be cut.
    """

    def verb(tx: Transaction) -> int:
        if not tx.sqlite:  # nothing is appended meanwhile
            key = func.hashtextextended("hareline.audit", 0)
            tx.connection.execute(select(func.pg_advisory_xact_lock(key)))
        newest = tx.connection.scalar(select(func.max(audit.c.seq))) or 0
        young = tx.connection.scalar(select(func.min(audit.c.seq)).where(audit.c.at >= before))
        end = (young if young is not None else newest) - 1
        row = tx.connection.execute(select(audit).where(audit.c.seq == end)).one_or_none()
        if row is None:
            if tx.connection.scalar(select(audit.c.seq).where(audit.c.seq < end).limit(1)) is not None:
                raise IllegalTransition(f"entry {end} of the audit trail is not there; see `hareline audit verify`")
            return 0
        tx.connection.execute(insert(audit_anchors).values(seq=row.seq, hash=row.hash, at=tx.now))
        gone = tx.connection.execute(delete(audit).where(audit.c.seq <= row.seq)).rowcount
        tx.deeds.append(Deed("truncate_audit", {"through": row.seq, "hash": row.hash, "before": str(before)}, gone))
        return gone

    return control.run(verb, by=by)

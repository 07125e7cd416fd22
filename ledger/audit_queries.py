"""What people ask of the audit trail.  Nothing here changes it."""

from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, Select, select, true

from ledger.audit import GENESIS, Entry, anchor, head
from ledger.engine import Database
from ledger.tables import audit, audit_anchors

_BATCH = 1_000


@dataclass(frozen=True)
class Verified:
    """Whether the chain holds."""

    entries: int  #: that were looked at
    first: int | None  #: number of the first one that is kept
    head: int  #: number of the last one
    hash: str  #: of the last one: kept elsewhere, it tells later that nothing up to it was changed or cut off
    bad: int | None  #: number of the first entry of which it does not hold, or nobody can tell; None: it holds
    why: str


class AuditQueries:
    """Thread-safe; fork-safe; no I/O until the first question.  Every method raises ``LedgerUnavailable``."""

    def __init__(self, url: str) -> None:
        self._database = Database(url)
        self._seen: ColumnElement[bool] = true()

    def done_by(self, name: str, token: str) -> "AuditQueries":
        """The same over the same connections, of which only what they did, with this token, is seen."""
        mine = copy(self)
        mine._seen = (audit.c.name == name) & (audit.c.token == token)
        return mine

    def close(self) -> None:
        self._database.close()

    def entries(
        self,
        *,
        name: str | None = None,
        operation: str | None = None,
        result: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        before: int | None = None,
        limit: int = 50,
    ) -> list[Entry]:
        """Newest first; the next page is ``before`` the last number of this one."""
        wanted = select(audit).where(self._seen).order_by(audit.c.seq.desc()).limit(limit)
        for column, value in (("name", name), ("operation", operation), ("result", result)):
            if value is not None:
                wanted = wanted.where(audit.c[column] == value)
        if since is not None:
            wanted = wanted.where(audit.c.at >= since)
        if until is not None:
            wanted = wanted.where(audit.c.at < until)
        if before is not None:
            wanted = wanted.where(audit.c.seq < before)
        with self._database.read() as connection:
            return list(_entries(connection, wanted))

    def entry(self, seq: int) -> Entry | None:
        with self._database.read() as connection:
            return next(_entries(connection, select(audit).where(audit.c.seq == seq, self._seen)), None)

    def everything(self) -> Iterator[Entry]:
        """All entries, oldest first, as they were when it began."""
        with self._database.read() as connection:
            yield from _all(connection)

    def verify(self, kept: tuple[int, str] | None = None) -> Verified:
        """Go through the whole chain.

        Parameters:
          kept: number and hash of an entry, as an earlier one said and somebody kept elsewhere.
        """
        with self._database.read() as connection:
            seq, hash = start = anchor(connection)
            known = {0: GENESIS} | {row.seq: row.hash for row in connection.execute(select(audit_anchors))}
            count, first = 0, None
            for entry in _all(connection):
                first = entry.seq if first is None else first
                why = ""
                if entry.seq <= start[0]:
                    why = f"it stands before the anchor at {start[0]}, and should have been cut off with the others"
                elif entry.seq != seq + 1:
                    why = f"after {seq} comes {entry.seq}: what was between them is gone"
                elif entry.sealed(hash) != entry.hash:
                    why = "its hash is not that of what it says after the entry before it: one of them was changed"
                elif kept is not None and entry.seq == kept[0] and entry.hash != kept[1]:
                    why = "its hash is another than the one that was kept: all from there, or before, was written anew"
                if why:
                    return Verified(count, first, *head(connection), entry.seq, why)
                seq, hash, count = entry.seq, entry.hash, count + 1
            if kept is not None and kept[0] > seq:
                return Verified(count, first, seq, hash, seq + 1, f"it ends at {seq}, and {kept[0]} was there: cut off")
            if kept is not None and kept[0] <= start[0] and kept[0] not in known:
                why = (
                    f"it stood before the anchor at {start[0]}, and no anchor is of it: it was cut off with others, or "
                    "all was written anew, and nothing here tells which; compare with an export, and keep a later head"
                )
                return Verified(count, first, seq, hash, kept[0], why)
            if kept is not None and kept[0] in known and known[kept[0]] != kept[1]:
                return Verified(count, first, seq, hash, kept[0], "the anchor there has another hash than was kept")
            return Verified(count, first, seq, hash, None, "")


def _all(connection: Connection) -> Iterator[Entry]:
    after = 0
    while some := list(
        _entries(connection, select(audit).where(audit.c.seq > after).order_by(audit.c.seq).limit(_BATCH))
    ):
        yield from some
        after = some[-1].seq


def _entries(connection: Connection, wanted: Select[tuple[object, ...]]) -> Iterator[Entry]:
    for row in connection.execute(wanted):
        yield Entry(**row._mapping)

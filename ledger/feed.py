"""The feed: what happened to jobs, in an order that can be followed without ever missing a late commit.

It has no table of its own.  While somebody follows, an attempt and a line of the journal carry the number of the
transaction that wrote them (``tx``): in PostgreSQL its xid, in SQLite a count of those that wrote any, where one
writes at a time.  In PostgreSQL a lower number may commit after a higher one, so what is read ends below the oldest
transaction still under way (``pg_snapshot_xmin``): below it every number is committed, or never will be.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, Self

from sqlalchemy import BigInteger, Connection, Row, Select, Text, cast, func, insert, literal, select, tuple_, update

from errors import BadCursor, EventsLost
from ledger.events import OUTCOMES, Happened, JobEvent
from ledger.sealing import masked
from ledger.states import Outcome, Reason, State
from ledger.tables import JobId, attempts, feed, history, jobs, journal, payloads, results
from ledger.text import all_ids

#: The lines of the journal that the feed tells; attempts tell the rest.
TOLD: Mapping[str, Happened] = {
    "buried": Happened.BURIED,
    "cancelled": Happened.CANCELLED,
    "retried": Happened.RETRIED,
    "removed": Happened.REMOVED,
    "discarded": Happened.REMOVED,
    "failed": Happened.EXPIRED,  # or quarantined: its reason says
}


class Cursor(NamedTuple):
    """A place in the feed: behind one event, or behind all of a transaction's when it names only that."""

    tx: int
    source: int = 2  #: 0 an attempt, 1 a line of the journal
    job: str = ""
    number: int = 0  #: the attempt's epoch, the line's id

    def __str__(self) -> str:
        return str(self.tx) if self.source == 2 else f"{self.tx}.{self.source}.{self.job}.{self.number}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ``BadCursor``."""
        try:
            tx, *rest = text.split(".")
            if not rest:
                return cls(int(tx))
            source, job, number = rest
            if source not in ("0", "1") or not all_ids([job]):
                raise ValueError
            return cls(int(tx), int(source), job, int(number))
        except ValueError:
            raise BadCursor(
                f"{text!r} is no cursor of the feed; take one that an event had, or leave it out to begin now"
            ) from None


@dataclass(frozen=True, slots=True)
class Extent:
    """How far the feed goes."""

    kept: bool
    floor: int  #: what was written up to this transaction may be missing
    ceiling: int  #: what was written from this transaction on cannot be read yet
    newest: int  #: the last transaction's number

    @property
    def end(self) -> Cursor:
        """Behind all that can be read now."""
        return Cursor(self.ceiling - 1)

    def demand(self, cursor: Cursor) -> None:
        """Raise ``EventsLost`` unless everything behind the cursor is there, or will be."""
        if not self.kept:
            raise EventsLost("nothing is kept for the feed (`hareline events off`); follow it without a cursor")
        if cursor.tx < self.floor:
            raise EventsLost(
                f"events between {cursor} and {self.floor} are gone: the history they belonged to was pruned "
                "(AUDIT_LOG_RETENTION_DAYS), or nobody followed then"
            )
        if cursor.tx > self.newest:
            raise EventsLost(
                f"{cursor} is ahead of this database, which is at {self.newest}: it was restored, or it is another one"
            )


def extent(connection: Connection) -> Extent:
    row = connection.execute(select(feed)).one_or_none()
    kept, floor, last = (bool(row.kept), row.floor, row.last) if row else (False, 0, 0)
    if connection.dialect.name == "sqlite":
        return Extent(kept, floor, last + 1, last)
    snapshot = func.pg_current_snapshot()
    lowest, next_one = connection.execute(
        select(_number(func.pg_snapshot_xmin(snapshot)), _number(func.pg_snapshot_xmax(snapshot)))
    ).one()
    return Extent(kept, floor, lowest, next_one)


def keep(connection: Connection) -> None:
    """From now on, write what the feed needs.  Idempotent; ``connection`` is in a transaction of its own.

    On PostgreSQL it waits for the transactions that write attempts or the journal, and they for it: whoever comes
    after it knows.
    """
    if connection.scalar(select(feed.c.kept)):
        return
    if connection.dialect.name != "sqlite":
        connection.exec_driver_sql("LOCK TABLE attempts, journal IN SHARE ROW EXCLUSIVE MODE")
    now = extent(connection)
    if now.kept:
        return
    # One more, so that a cursor from before it was last turned off is below the floor.
    floor = now.newest + 1 if connection.dialect.name == "sqlite" else now.end.tx
    values = {"kept": True, "floor": floor, "last": floor}
    if not connection.execute(update(feed).values(values)).rowcount:
        connection.execute(insert(feed).values(values))


def stop_keeping(connection: Connection) -> None:
    """From now on, write nothing for the feed."""
    connection.execute(update(feed).values(kept=False))


def number(connection: Connection) -> Any:
    """For the column ``tx`` of what this transaction writes: a value, or an expression."""
    if connection.dialect.name == "sqlite":
        counted = update(feed).where(feed.c.kept).values(last=feed.c.last + 1).returning(feed.c.last)
        return connection.scalar(counted)
    # In the statement that writes: its snapshot is taken after its locks, see keep().
    return select(_number(func.pg_current_xact_id())).select_from(feed).where(feed.c.kept).scalar_subquery()


def _number(xid: Any) -> Any:
    return cast(cast(xid, Text), BigInteger)


@dataclass(frozen=True, slots=True)
class Page:
    """A stretch of the feed."""

    events: list[JobEvent]
    end: Cursor  #: behind its last row, of which perhaps none was wanted
    full: bool  #: there may be more already


def read(
    connection: Connection, after: Cursor, to: Extent, names: frozenset[Happened], limit: int, now: datetime
) -> Page:
    """The next ``limit`` rows, and of those the events with these names."""
    rows = [(*_tried(row), row) for row in connection.execute(_attempts(after, to.ceiling, limit))]
    rows += [(*_noted(row), row) for row in connection.execute(_journal(after, to.ceiling, limit))]
    rows.sort(key=lambda row: row[0])
    rows = rows[:limit]
    asked = (
        names | {Happened.FAILED} if Happened.EXPIRED in names else names
    )  # it may have been a worker that found out
    rows_asked = [row for row in rows if row[1] in asked]
    known = about(connection, {place.job for place, _, _ in rows_asked}, now)
    events = [_event(place, what, row, known.get(place.job)) for place, what, row in rows_asked]
    events = [event for event in events if event.event in names]
    # Without a row, everything below the ceiling has been looked at.
    full = len(rows) == limit
    end = rows[-1][0] if full else max(after, to.end)
    return Page(events, end, full)


def _attempts(after: Cursor, ceiling: int, limit: int) -> Select[Any]:
    place = (attempts.c.tx, attempts.c.job_id, attempts.c.epoch)
    behind: Any = attempts.c.tx > after.tx
    if after.source == 0:
        behind = tuple_(*place) > tuple_(literal(after.tx), literal(after.job, JobId), literal(after.number))
    wanted = (c for c in attempts.c if c is not attempts.c.traceback)
    return select(*wanted).where(behind, attempts.c.tx < ceiling).order_by(*place).limit(limit)


def _journal(after: Cursor, ceiling: int, limit: int) -> Select[Any]:
    place = (journal.c.tx, journal.c.job_id, journal.c.id)
    behind: Any = journal.c.tx > after.tx
    if after.source == 0:
        behind = journal.c.tx >= after.tx
    elif after.source == 1:
        behind = tuple_(*place) > tuple_(literal(after.tx), literal(after.job, JobId), literal(after.number))
    return select(journal).where(behind, journal.c.tx < ceiling).order_by(*place).limit(limit)


def _tried(row: Row[Any]) -> tuple[Cursor, Happened]:
    return Cursor(row.tx, 0, row.job_id, row.epoch), OUTCOMES[Outcome(row.outcome)]


def _noted(row: Row[Any]) -> tuple[Cursor, Happened]:
    poison = row.event == "failed" and json.loads(row.detail)["reason"] == Reason.POISON
    return Cursor(row.tx, 1, row.job_id, row.id), Happened.QUARANTINED if poison else TOLD[row.event]


def _event(place: Cursor, what: Happened, row: Row[Any], known: Mapping[str, Any] | None) -> JobEvent:
    detail = json.loads(row.detail or "{}") if place.source else {}
    job = known or {name: detail.get(name, "") for name in ("message_id", "actor", "queue")}  # it was removed
    reason = detail.get("reason") if place.source else job.get("reason") if what is Happened.FAILED else None
    common: dict[str, Any] = {name: job[name] for name in ("message_id", "actor", "queue")}
    common |= {"job": place.job, "cursor": str(place), "reason": reason}
    if place.source:
        return JobEvent(what, at=row.at, by=row.actor, error_message=detail.get("error"), **common)
    return JobEvent(
        Happened.EXPIRED if reason == Reason.EXPIRED else what,
        at=row.finished_at,
        by=f"worker {row.worker_id}",
        attempt=row.number,
        error_type=row.error_type,
        error_message=row.error_message and masked(row.error_message),
        has_result=what is Happened.COMPLETED and job.get("has_result", False),
        **common,
    )


def about(connection: Connection, ids: Collection[str], now: datetime) -> dict[str, dict[str, Any]]:
    """By id, what is known of these jobs now; those that were removed are left out."""
    if not ids:
        return {}
    names = ("id", "actor", "queue", "state", "reason", "finished_at")
    hot = select(*(jobs.c[name] for name in names), payloads.c.message_id).join_from(
        jobs, payloads, payloads.c.job_id == jobs.c.id
    )
    past = select(*(history.c[name] for name in names), history.c.message_id).where(history.c.id.in_(ids))
    found = {
        row.id: dict(row._mapping)
        for wanted in (past, hot.where(jobs.c.id.in_(ids)))
        for row in connection.execute(wanted)
    }
    there = connection.scalars(select(results.c.job_id).where(results.c.job_id.in_(ids), results.c.expires_at > now))
    for id in there:
        if id in found and found[id]["state"] == State.COMPLETED:
            found[id]["has_result"] = True
    return found

"""Verbs for the feed of events and for those who follow it by a name."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, text, update

from control.transaction import Control, Transaction
from control.who import By
from errors import EventsLost
from ledger import feed
from ledger.engine import Database
from ledger.feed import Cursor, Extent
from ledger.tables import attempts, followers, journal

#: Counting what a follower is behind ends here.
MOST = 10_000
#: The journal's word for a listener that raised, or was too slow; as many lines of it are shown.
LISTENER_FAILED = "listener failed"
TROUBLES = 20


@dataclass(frozen=True)
class Follower:
    """Somebody who follows the feed by a name."""

    name: str
    cursor: str
    seen_at: datetime  #: when it last wrote down where it is
    behind: int  #: events, of any name, that it has not dealt with; counted up to ``MOST``
    lost: bool  #: not everything behind its cursor is kept any more


@dataclass(frozen=True)
class Trouble:
    """A listener that failed, or was too slow; several of a minute are one."""

    at: datetime
    listener: str
    detail: str  #: JSON


@dataclass(frozen=True)
class Overview:
    """How the feed stands."""

    kept: bool
    held_up_s: float | None  #: for so long the oldest open transaction has kept what is newer from being read
    followers: list[Follower]
    troubles: list[Trouble]  #: newest first


def overview(url: str) -> Overview:
    """The feed, who follows it, and the listeners that failed lately."""
    database = Database(url)
    try:
        with database.read() as connection:
            extent = feed.extent(connection)
            known = [_follower(connection, extent, row) for row in connection.execute(select(followers))]
            lines = connection.execute(
                select(journal)
                .where(journal.c.job_id.is_(None), journal.c.event == LISTENER_FAILED)
                .order_by(journal.c.at.desc())
                .limit(TROUBLES)
            )
            troubles = [Trouble(row.at, row.actor, row.detail) for row in lines]
            held_up_s = _held_up_s(connection) if extent.kept and not database.sqlite else None
            return Overview(extent.kept, held_up_s, sorted(known, key=lambda x: x.name), troubles)
    finally:
        database.close()


def seek(control: Control, name: str, to: str, *, by: By) -> str:
    """Let a follower go on elsewhere: at a cursor, at the "oldest" event that is kept, or "now"; its new cursor.

    Raises ``BadCursor``, and ``EventsLost`` for a cursor behind which not everything is kept.
    """

    def verb(tx: Transaction) -> str:
        feed.keep(tx.connection)
        extent = feed.extent(tx.connection)
        places = {"oldest": Cursor(extent.floor), "now": extent.end}
        cursor = places[to] if to in places else Cursor.parse(to)
        extent.demand(cursor)
        was = tx.connection.scalar(select(followers.c.cursor).where(followers.c.name == name).with_for_update())
        if was == str(cursor):
            return str(cursor)
        moved = update(followers).where(followers.c.name == name).values(cursor=str(cursor))
        if not tx.connection.execute(moved).rowcount:
            tx.connection.execute(insert(followers).values(name=name, cursor=str(cursor), seen_at=tx.now))
        tx.note(None, "follower moved", {"follower": name, "to": str(cursor), "was": was})
        return str(cursor)

    return control.run(verb, by=by)


def forget(control: Control, name: str, *, by: By) -> bool:
    """Forget a follower; false when there is none of that name.  It would begin anew, with what happens then."""

    def verb(tx: Transaction) -> bool:
        if not tx.connection.execute(delete(followers).where(followers.c.name == name)).rowcount:
            return False
        tx.note(None, "follower forgotten", {"follower": name})
        return True

    return control.run(verb, by=by)


def on(control: Control, *, by: By) -> None:
    """Write what the feed needs, from now on.  Idempotent."""

    def verb(tx: Transaction) -> None:
        if not feed.extent(tx.connection).kept:
            feed.keep(tx.connection)
            tx.note(None, "feed on", {})

    control.run(verb, by=by)


def off(control: Control, *, by: By) -> None:
    """Write nothing for the feed any more, until somebody follows it again; those who do are told what they lost."""

    def verb(tx: Transaction) -> None:
        if not feed.extent(tx.connection).kept:
            return
        feed.stop_keeping(tx.connection)
        tx.connection.execute(update(followers).values(cursor="0"))
        tx.note(None, "feed off", {})

    control.run(verb, by=by)


def note_trouble(control: Control, listener: str, detail: Mapping[str, Any]) -> None:
    """Put down that a listener failed, for :func:`overview`."""
    control.run(lambda tx: tx.note(None, LISTENER_FAILED, detail, deed=False), by=listener)


def _follower(connection: Connection, extent: Extent, row: Any) -> Follower:
    cursor = Cursor.parse(row.cursor)
    behind = 0
    for column in (attempts.c.tx, journal.c.tx):
        some = select(column).where(column > cursor.tx).limit(MOST).subquery()
        behind += connection.scalar(select(func.count()).select_from(some)) or 0
    try:
        extent.demand(cursor)
        lost = False
    except EventsLost:
        lost = True
    return Follower(row.name, row.cursor, row.seen_at, min(behind, MOST), lost)


def _held_up_s(connection: Connection) -> float | None:
    oldest = "SELECT extract(epoch FROM max(clock_timestamp() - xact_start))::float8 FROM pg_stat_activity"
    held: float | None = connection.scalar(text(f"{oldest} WHERE backend_xid IS NOT NULL"))
    return held

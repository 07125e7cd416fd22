"""The duty that writes what jobs may be found by, beside them and after them: no job waits for it."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Select, Table, select, union_all
from sqlalchemy.dialects import postgresql, sqlite

from ledger import bookmarks
from ledger.finder import id_at
from ledger.redact import message_of
from ledger.search import TEXT_DAYS
from ledger.tables import failure_groups, failures, history, jobs, payloads, search_texts
from ledger.words import words_of

#: A producer whose id is older than its commit by more is found by the next look back.
_SETTLED = timedelta(seconds=1)
#: Looks back so far: a transaction of a caller's that was open for longer is not found by words.
BACK = timedelta(minutes=15)

_PLACE, _LOOK_BACK = "search", "search, looking back"


def index(connection: Connection, now: datetime, limit: int) -> int:
    """Write the words of the next jobs, oldest first; returns how many were looked at."""
    place = bookmarks.held(connection, _PLACE, id_at(now - timedelta(days=TEXT_DAYS)))
    if place is None:
        return 0
    rows = _next(connection, place, id_at(now - _SETTLED), limit, missing=False)
    _write(connection, rows)
    if rows:
        bookmarks.move(connection, _PLACE, rows[-1].id)
    return len(rows)


def look_back(connection: Connection, now: datetime, limit: int) -> int:
    """Write the words of jobs that were committed out of the order of their ids; returns how many there were."""
    place = bookmarks.held(connection, _LOOK_BACK, "")
    if place is None:
        return 0
    rows = _next(connection, id_at(now - BACK), id_at(now - _SETTLED), limit, missing=True)
    _write(connection, rows)
    return len(rows)


def _next(connection: Connection, after: str, before: str, limit: int, *, missing: bool) -> Sequence[Any]:
    def part(table: Table, wanted: Select[Any]) -> Select[Any]:
        if missing:
            known = search_texts.c.job_id == table.c.id
            wanted = wanted.outerjoin(search_texts, known).where(search_texts.c.job_id.is_(None))
        return wanted.where(table.c.id > after, table.c.id < before).order_by(table.c.id).limit(limit)

    hot = select(jobs.c.id, payloads.c.body).join_from(jobs, payloads, payloads.c.job_id == jobs.c.id)
    past = select(history.c.id, history.c.body)
    parts = [part(jobs, hot).subquery(), part(history, past).subquery()]
    found = union_all(*(select(p.c.id, p.c.body) for p in parts)).subquery()
    return connection.execute(select(found.c.id, found.c.body).order_by(found.c.id).limit(limit)).all()


def _write(connection: Connection, rows: Sequence[Any]) -> None:
    if not rows:
        return
    errors = errors_of(connection, [row.id for row in rows])
    new = [{"job_id": row.id, "words": words_of(message_of(bytes(row.body)), *errors.get(row.id, ()))} for row in rows]
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    connection.execute(dialect.insert(search_texts).on_conflict_do_nothing(index_elements=["job_id"]), new)


def write_again(connection: Connection, ids: Sequence[str]) -> None:
    """The words of these jobs, of which something new is known; not of those that have none yet."""
    known = list(connection.scalars(select(search_texts.c.job_id).where(search_texts.c.job_id.in_(ids))))
    if not known:
        return
    connection.execute(search_texts.delete().where(search_texts.c.job_id.in_(known)))
    hot = select(payloads.c.job_id.label("id"), payloads.c.body).where(payloads.c.job_id.in_(known))
    past = select(history.c.id, history.c.body).where(history.c.id.in_(known))
    _write(connection, [row for wanted in (hot, past) for row in connection.execute(wanted)])


def errors_of(connection: Connection, ids: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Of the dead letters among these jobs."""
    rows = connection.execute(
        select(failures.c.job_id, failure_groups.c.error_type, failure_groups.c.message)
        .join(failure_groups, failure_groups.c.fingerprint == failures.c.fingerprint)
        .where(failures.c.job_id.in_(ids))
    )
    return {row.job_id: (row.error_type, row.message) for row in rows}

"""The duty that writes what jobs may be found by, beside them and after them: no job waits for it."""

import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Select, Subquery, Table, select, text, union_all

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

_INSERT = {
    # One statement for all: a statement for each costs three times as much as cutting the words.
    "postgresql": text(
        "INSERT INTO search_texts (job_id, words) "
        "SELECT id, array_to_tsvector(string_to_array(words, chr(31))) "
        "FROM unnest(CAST(:ids AS uuid[]), CAST(:words AS text[])) AS new (id, words) ON CONFLICT DO NOTHING"
    ),
    "sqlite": text("INSERT INTO search_texts (job_id, words) VALUES (:id, :words) ON CONFLICT DO NOTHING"),
}


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
    first = union_all(*(select(p.c.id, p.c.body) for p in parts)).subquery()
    found = select(first).order_by(first.c.id).limit(limit).subquery()
    return connection.execute(_with_errors(found).order_by(found.c.id)).all()


def _with_errors(found: Subquery) -> Select[Any]:
    """Jobs, and of the dead letters among them what they died of."""
    group = failure_groups.c
    return (
        select(found.c.id, found.c.body, group.error_type, group.message)
        .outerjoin(failures, failures.c.job_id == found.c.id)
        .outerjoin(failure_groups, group.fingerprint == failures.c.fingerprint)
    )


def _write(connection: Connection, rows: Sequence[Any]) -> None:
    if not rows:
        return
    words = []
    for row in rows:
        words.append(words_of(message_of(bytes(row.body)), row.error_type or "", row.message or ""))
        time.sleep(0)  # whoever runs jobs needs the interpreter now, not after its switch interval of 5 ms
    if (name := connection.dialect.name) == "postgresql":
        new: Any = {"ids": [row.id for row in rows], "words": ["\x1f".join(some) for some in words]}
    else:
        new = [{"id": row.id, "words": f" {' '.join(some)} "} for row, some in zip(rows, words, strict=True)]
    connection.execute(_INSERT[name], new)


def write_again(connection: Connection, ids: Sequence[str]) -> None:
    """The words of these jobs, of which something new is known; not of those that have none yet."""
    known = list(connection.scalars(select(search_texts.c.job_id).where(search_texts.c.job_id.in_(ids))))
    if not known:
        return
    connection.execute(search_texts.delete().where(search_texts.c.job_id.in_(known)))
    hot = select(payloads.c.job_id.label("id"), payloads.c.body).where(payloads.c.job_id.in_(known))
    past = select(history.c.id, history.c.body).where(history.c.id.in_(known))
    _write(connection, connection.execute(_with_errors(union_all(hot, past).subquery())).all())

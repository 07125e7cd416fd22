"""Which job a person means: its id, the beginning of its id, or a Dramatiq message id."""

import re
from uuid import UUID

from sqlalchemy import Column, Connection, FromClause, select

from errors import JobNotFound
from ledger.tables import history, jobs, payloads

_SHORTEST = 8


def find(connection: Connection, ref: str) -> str | None:
    """The full id of the job, live, finished or in history; of a message id sent more than once, the newest job's.

    Raises ``JobNotFound`` when the beginning of an id fits more than one job.
    """
    ref = ref.strip()
    if (id := _uuid(ref)) and (_has(connection, jobs.c.id, id) or _has(connection, history.c.id, id)):
        return id
    if found := newest_of_message(connection, ref):
        return found
    return _by_prefix(connection, ref.lower().replace("-", ""))


def newest_of_message(connection: Connection, message_id: str) -> str | None:
    newest = [
        connection.scalar(select(column).where(table.c.message_id == message_id).order_by(column.desc()).limit(1))
        for table, column in ((payloads, payloads.c.job_id), (history, history.c.id))
    ]
    return max(filter(None, newest), default=None)  # ids are UUIDv7: a later one is greater


def _uuid(text: str) -> str | None:
    try:
        return str(UUID(text))
    except ValueError:
        return None


def _has(connection: Connection, column: Column[str], id: str) -> bool:
    return connection.scalar(select(column).where(column == id)) is not None


def _by_prefix(connection: Connection, digits: str) -> str | None:
    if not _SHORTEST <= len(digits) < 32 or not re.fullmatch("[0-9a-f]+", digits):
        return None
    first, last = str(UUID(digits.ljust(32, "0"))), str(UUID(digits.ljust(32, "f")))
    found: set[str] = set()
    table: FromClause
    for table in (jobs, history):
        found |= set(connection.scalars(select(table.c.id).where(table.c.id.between(first, last)).limit(2)))
    if len(found) > 1:
        raise JobNotFound(f"{digits!r} is the beginning of several ids ({', '.join(sorted(found))} …); give more of it")
    return next(iter(found), None)

"""Which job a person means: its id, the beginning of its id, or a Dramatiq message id."""

import re
from collections.abc import Collection
from uuid import UUID

from sqlalchemy import Connection, select

from errors import JobNotFound
from ledger.scope import EVERYTHING, Scope
from ledger.tables import history, jobs, payloads

_SHORTEST = 8


def find(connection: Connection, ref: str, scope: Scope = EVERYTHING) -> str | None:
    """The full id of the job, live, finished or in history; of a message id sent more than once, the newest job's.

    Of queues beyond the scope no job is there.  Raises ``JobNotFound`` when the beginning of an id fits several.
    """
    ref = ref.strip()
    if (id := _uuid(ref)) and admitted(connection, [id], scope):
        return id
    found = newest_of_message(connection, ref)
    if found and (not scope.limited or admitted(connection, [found], scope)):
        return found
    return _by_prefix(connection, ref.lower().replace("-", ""), scope)


def admitted(connection: Connection, ids: Collection[str], scope: Scope) -> set[str]:
    """Of jobs with these ids, those that are there, on a queue of the scope."""
    found: set[str] = set()
    for table in (jobs, history):
        if left := set(ids) - found:
            asked = select(table.c.id).where(table.c.id.in_(left), scope.clause(table.c.queue))
            found |= set(connection.scalars(asked))
    return found


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


def _by_prefix(connection: Connection, digits: str, scope: Scope) -> str | None:
    if not _SHORTEST <= len(digits) < 32 or not re.fullmatch("[0-9a-f]+", digits):
        return None
    first, last = str(UUID(digits.ljust(32, "0"))), str(UUID(digits.ljust(32, "f")))
    found: set[str] = set()
    for table in (jobs, history):
        fits = select(table.c.id).where(table.c.id.between(first, last), scope.clause(table.c.queue))
        found |= set(connection.scalars(fits.limit(2)))
    if len(found) > 1:
        raise JobNotFound(f"{digits!r} is the beginning of several ids ({', '.join(sorted(found))} …); give more of it")
    return next(iter(found), None)

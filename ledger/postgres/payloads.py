"""Payloads as they are now.

A statement reads rows that it locks as they are by then, and all others as they were when it began: a job that was
replaced in between would come with its new ticket and the payload it had before.
"""

from collections.abc import Iterable

from ledger.postgres.arrays import literal
from ledger.postgres.connection import Cursor


def newest(cursor: Cursor, jobs: Iterable[tuple[str, int]]) -> dict[str, tuple[str, bytes]]:
    """Message id and body of those (id, ticket) that may have been replaced: whose ticket is not their first."""
    ids = [id for id, ticket in jobs if ticket > 1]
    return {id: (message_id, body) for id, message_id, body in cursor.run("payloads", literal(ids))} if ids else {}

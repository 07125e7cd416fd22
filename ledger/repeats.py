"""What was answered to requests that bore a key, so that one that is sent again is answered again and not done again.

A key, what the request does and its answer are one transaction: all of it is there, or nothing.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from sqlalchemy import Connection, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite

from failpoints import hit
from ledger.engine import Database
from ledger.tables import repeats

#: How long an answer is remembered.
KEPT: Final = timedelta(hours=24)


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes
    again: bool = False  #: it was given before


class OtherRequest(Exception):
    """The key was used for something else."""


class Repeats:
    """Thread-safe; no I/O until the first request."""

    def __init__(self, url: str) -> None:
        self._database = Database(url)

    def close(self) -> None:
        self._database.close()

    def once(self, key: str, body: str, do: Callable[[Connection], Answer]) -> Answer:
        """What was answered to this key; else what ``do`` answers, which is remembered.

        What ``do`` does to the ledger, by whatever readers and verbs on this thread, is part of the transaction it is
        given.  When it raises, nothing was done, and the key is free.  Who comes with a key that is in use waits.
        Raises ``OtherRequest`` for a key of another body, and ``LedgerUnavailable``.
        """
        with self._database.shared() as connection:
            now = self._database.time(connection)
            made = (sqlite if self._database.sqlite else postgresql).insert(repeats)
            new = {"body": body, "begun_at": now, "status": None, "headers": None, "answer": None}
            taken = made.values(key=key, **new).on_conflict_do_update(
                index_elements=["key"], set_=new, where=repeats.c.begun_at <= now - KEPT
            )
            if connection.scalar(taken.returning(repeats.c.key)) is None:
                row = connection.execute(select(repeats).where(repeats.c.key == key)).one()
                if row.body != body:
                    raise OtherRequest
                return Answer(row.status, json.loads(row.headers), bytes(row.answer), again=True)
            answer = do(connection)
            values = {"status": answer.status, "headers": json.dumps(dict(answer.headers)), "answer": answer.body}
            connection.execute(update(repeats).where(repeats.c.key == key).values(**values))
            hit("repeat.before_commit")
        hit("repeat.committed")
        return answer

    def forget(self) -> None:
        """Forget those that are old."""
        with self._database.write() as connection:
            connection.execute(delete(repeats).where(repeats.c.begun_at <= self._database.time(connection) - KEPT))

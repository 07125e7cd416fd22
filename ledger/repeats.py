"""What was answered to requests that bore a key, so that one that is sent again is not done again."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum

from sqlalchemy import delete, select, update
from sqlalchemy.dialects import postgresql, sqlite

from ledger.engine import Database
from ledger.tables import repeats

#: How long an answer is remembered.
KEPT = timedelta(hours=24)
#: Whoever has not answered by then has died.
LONGEST = timedelta(minutes=5)


class Found(Enum):
    """Why a request is neither done nor answered from memory."""

    NEW = "it was not there: do it"
    OTHER = "the key was used for something else"
    BUSY = "it is being done"
    LOST = "whoever did it died: whether it was done nobody knows"


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes


class Repeats:
    """Thread-safe; no I/O until the first request.  Every method raises ``LedgerUnavailable``."""

    def __init__(self, url: str) -> None:
        self._database = Database(url)

    def close(self) -> None:
        self._database.close()

    def begin(self, key: str, body: str) -> Answer | Found:
        """What was answered to it; or what is to become of it, and ``NEW`` is noted as being done."""
        insert = (sqlite if self._database.sqlite else postgresql).insert
        for _ in range(2):  # another may be quicker
            with self._database.read() as connection:
                now = self._database.time(connection)
                row = connection.execute(select(repeats).where(repeats.c.key == key)).one_or_none()
            if row is not None and row.begun_at > now - KEPT:
                if row.body != body:
                    return Found.OTHER
                if row.status is None:
                    return Found.BUSY if row.begun_at > now - LONGEST else Found.LOST
                return Answer(row.status, json.loads(row.headers), bytes(row.answer))
            with self._database.write() as connection:
                connection.execute(delete(repeats).where(repeats.c.begun_at <= now - KEPT))
                new = insert(repeats).values(key=key, body=body, begun_at=now)
                if connection.scalar(new.on_conflict_do_nothing().returning(repeats.c.key)) is not None:
                    return Found.NEW
        return Found.BUSY

    def answered(self, key: str, answer: Answer) -> None:
        """It is done, and this was said."""
        values = {"status": answer.status, "headers": json.dumps(dict(answer.headers)), "answer": answer.body}
        with self._database.write() as connection:
            connection.execute(update(repeats).where(repeats.c.key == key).values(**values))

    def forget(self, key: str) -> None:
        """It was refused, and nothing was done: the same may be tried again."""
        with self._database.write() as connection:
            connection.execute(delete(repeats).where(repeats.c.key == key, repeats.c.status.is_(None)))

"""One connection to a SQLite file: opened at its first use, reopened after an error or a fork."""

import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from ledger import clock
from ledger.sqlite.file import explain, open_file
from ledger.sqlite.forks import Guard
from ledger.sqlite.prepare import prepare
from ledger.sqlite.turn import turn
from ledger.statements import statements

Road = Literal["embedded", "rabbitmq"]


class Transaction:
    """What the functions of this package work with: statements by name, and one time for all of them."""

    __slots__ = ("_db", "_number", "_sql", "embedded", "now", "publish_after")

    def __init__(self, db: sqlite3.Connection, sql: Mapping[str, str], embedded: bool, publish_after: int) -> None:
        self._db = db
        self._sql = sql
        self.embedded = embedded
        self._number: int | Literal["unasked"] | None = "unasked"
        self.publish_after = publish_after  #: microseconds until the relay may send what its producer did not
        self.now = clock.micros()  #: the database's clock: microseconds since 1970, read inside the lock

    @property
    def number(self) -> int | None:
        """Its place in the feed, for the events it writes; None while no feed is kept."""
        if self._number == "unasked":
            row = self.run("next_tx").fetchone()
            self._number = row[0] if row else None
        return self._number

    def run(self, name: str, *parameters: Any) -> sqlite3.Cursor:
        return self._db.execute(self._sql[name], parameters)

    def many(self, name: str, rows: Collection[Sequence[Any]]) -> None:
        if rows:
            self._db.executemany(self._sql[name], rows)


class Connection:
    """Used by one thread at a time.  Raises ``LedgerUnavailable``, naming the file, whenever SQLite cannot go on."""

    def __init__(self, path: Path, *, road: Road, publish_after_s: float, synchronous: str) -> None:
        self._path = path
        self._embedded = road == "embedded"
        self._publish_after = int(publish_after_s * 1_000_000)
        self._synchronous = synchronous
        self._db: sqlite3.Connection | None = None
        self._guard = Guard(self._close)

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        """A transaction that holds the write lock; committed at the end, undone by any exception."""
        with self._guard:
            try:
                db = self._db or self._open()
                # IMMEDIATE always: a transaction that reads first and writes later cannot wait for
                # another writer, it fails at once with SQLITE_BUSY_SNAPSHOT.
                with turn(self._path):
                    db.execute("BEGIN IMMEDIATE")
                    yield Transaction(db, statements("sqlite"), self._embedded, self._publish_after)
                    db.execute("COMMIT")
            except BaseException as error:
                self._close()  # this rolls back, and gets rid of what may be broken; opening costs well under 1 ms
                if isinstance(error, sqlite3.Error):
                    raise explain(error, self._path) from error
                raise

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        """A single reading statement; never waits for a writer."""
        with self._guard:
            try:
                yield Transaction(self._db or self._open(), statements("sqlite"), self._embedded, self._publish_after)
            except sqlite3.Error as error:
                self._close()
                raise explain(error, self._path) from error

    def close(self) -> None:
        with self._guard:
            self._close()

    def _close(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            db.close()

    def _open(self) -> sqlite3.Connection:
        prepare(self._path)
        self._db = open_file(self._path, self._synchronous)
        return self._db

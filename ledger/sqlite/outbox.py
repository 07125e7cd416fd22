"""Somebody's connection to the ledger's file, in the middle of a transaction."""

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from errors import Refusal, SchemaMismatch
from ledger.records import Enqueued, NewJob
from ledger.revision import newest
from ledger.sqlite import enqueue
from ledger.sqlite.connection import Transaction
from ledger.sqlite.forks import Guard
from ledger.sqlite.prepare import assume_prepared, prepare, revision_of
from ledger.sqlite.turn import turn
from ledger.statements import statements


class SqliteOutbox:
    """Begins a transaction where the driver would have begun one itself at its next write, as it does by default."""

    def __init__(self, path: Path, connection: sqlite3.Connection, *, embedded: bool) -> None:
        self._path = path
        self._connection = connection
        self._embedded = embedded
        self._at_home = False

    @property
    def idle(self) -> bool:
        try:
            return not self._connection.in_transaction
        except sqlite3.ProgrammingError:  # closed
            return True

    def record(self, jobs: Sequence[NewJob], *, publish_after_s: float) -> list[Enqueued]:
        db = self._connection
        try:
            began = db.in_transaction
        except sqlite3.ProgrammingError as error:
            raise Refusal(f"the connection given to transactional(): {error}; open one, and commit it") from error
        if not began and (db.isolation_level is None or getattr(db, "autocommit", False) is True):
            raise Refusal(
                "the connection given to transactional() is in autocommit mode, and in no transaction to record the "
                "job in; BEGIN IMMEDIATE before the sends, or leave transactional() out"
            )
        rows, db.row_factory = db.row_factory, None
        try:
            if not self._at_home:
                self._demand_home(began)
                self._at_home = True
            if not began:
                with turn(self._path):
                    db.execute("BEGIN IMMEDIATE")  # what is read of keys must hold until it is written
            tx = Transaction(db, statements("sqlite"), self._embedded, int(publish_after_s * 1_000_000))
            return enqueue.record(tx, jobs)
        finally:
            db.row_factory = rows

    def _demand_home(self, began: bool) -> None:
        [file] = [row[2] for row in self._connection.execute("PRAGMA database_list") if row[1] == "main"]
        if not file or not self._path.exists() or not self._path.samefile(file):
            raise Refusal(
                f"the connection is to {file or 'a database in memory'}, the ledger is {self._path}: only the ledger's "
                "own file can record jobs in your transaction (DATABASE_URL)"
            )
        if revision_of(self._connection) == newest():
            assume_prepared(self._path)  # a reader must not find out by writing while this transaction has the lock
        elif began:
            raise SchemaMismatch(f"the ledger {self._path} is not at the schema of this code; run `hareline migrate`")
        else:
            with Guard():
                prepare(self._path)

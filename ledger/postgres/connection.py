"""One connection to PostgreSQL: opened at its first use, opened again after it broke or the process forked."""

import logging
import os
import random
import time
from collections.abc import Callable
from typing import Any, Literal, Protocol, TypeVar

import psycopg
from psycopg import errors, pq

from errors import LedgerBusy, LedgerError, LedgerUnavailable, SchemaMismatch
from ledger.statements import statements

logger = logging.getLogger(__name__)

Road = Literal["embedded", "rabbitmq"]
Row = tuple[Any, ...]
T = TypeVar("T")

_TRIES = 8  # of a transaction that lost a deadlock
_CONNECT_S = 10
#: Set on every connection.  One plan per statement: planning a claim costs as much as running it.  It must not depend
#: on how large the tables were when it was made: no table is read as a whole (see also ledger/sql/postgres.sql).
_SETTINGS = {
    "timezone": "UTC",
    "statement_timeout": "60s",
    "lock_timeout": "10s",
    "idle_in_transaction_session_timeout": "60s",
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "max_parallel_workers_per_gather": "0",
    "jit": "off",
}
#: The database is there but cannot take this now: another try may succeed, on the same connection or a new one.
_PASSING = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    errors.ReadOnlySqlTransaction,
    errors.InsufficientPrivilege,  # says nothing of the rows: they wait for the GRANT
)
_LIMITS = "54"  # class of SQLSTATEs: too large, however often it is tried; psycopg has them among the passing ones
_RETRIED = (errors.DeadlockDetected, errors.SerializationFailure)

#: Connections of the parent process: kept, so that no child ever closes what it shares with its parent.
_inherited: list[psycopg.Connection[Row]] = []


class Statements(Protocol):
    """Statements by name."""

    def run(self, name: str, *parameters: object) -> list[Row]: ...

    def run_after(
        self, name: str, lock: str, parameters: tuple[object, ...], lock_parameters: tuple[object, ...]
    ) -> list[Row]: ...


class Cursor:
    """Statements by name on an open connection of the ledger's own."""

    __slots__ = ("_cursor", "_first", "_sql", "connection")

    def __init__(self, connection: psycopg.Connection[Row]) -> None:
        self.connection = connection
        self._cursor = psycopg.RawCursor(connection)
        self._first = psycopg.RawCursor(connection)
        self._sql = statements("postgres")

    def run(self, name: str, *parameters: object) -> list[Row]:
        """The rows of a statement (none when it returns nothing); a transaction of its own unless inside one."""
        cursor = self._cursor
        cursor.execute(self._sql[name], parameters, prepare=True)
        return _rows(cursor)

    def count(self, name: str, *parameters: object) -> int:
        """How many rows a statement returned or, when it returns none, changed."""
        self._cursor.execute(self._sql[name], parameters, prepare=True)
        return self._cursor.rowcount

    def run_after(
        self, name: str, lock: str, parameters: tuple[object, ...], lock_parameters: tuple[object, ...]
    ) -> list[Row]:
        """The same, in one transaction and one round trip with a statement that takes locks before it."""
        cursor = self._cursor
        with self.connection.pipeline():
            self._first.execute(self._sql[lock], lock_parameters, prepare=True)
            cursor.execute(self._sql[name], parameters, prepare=True)
        return _rows(cursor)


class Connection:
    """Used by one thread at a time; a child process gets one of its own."""

    def __init__(self, dsn: str, name: str, *, shown: str) -> None:
        self._dsn = dsn
        self._name = name
        self._shown = shown
        self._cursor: Cursor | None = None
        self._pid = 0

    def call(self, work: Callable[[Cursor], T]) -> T:
        """What ``work`` returns.  It may be called again after a deadlock, so it must be a transaction as a whole.

        Raises ``LedgerUnavailable`` when the database cannot be reached, breaks off, does not answer in time or does
        not let us, ``LedgerBusy`` when only this cannot be had in time, ``SchemaMismatch`` when a table is missing,
        and ``LedgerError`` when something is too large for it.
        """
        for attempt in range(_TRIES):
            cursor = self._open()
            try:
                return work(cursor)
            except _RETRIED as error:
                if attempt == _TRIES - 1:
                    raise LedgerUnavailable(f"{self._shown}: {_first_line(error)}, {_TRIES} times in a row") from error
                logger.debug("%s: %s; trying again", self._shown, _first_line(error))
                # Not at once: whoever won has to finish first.
                time.sleep(random.uniform(0.001, 0.01) * 2**attempt)
            except _PASSING as error:
                if (error.sqlstate or "").startswith(_LIMITS):
                    raise LedgerError(f"{self._shown} refused a statement: {_first_line(error)}") from error
                if isinstance(error, errors.LockNotAvailable | errors.QueryCanceled) and not cursor.connection.broken:
                    raise LedgerBusy(f"{self._shown}: {_first_line(error)}") from error
                self.close()
                raise LedgerUnavailable(f"{self._shown}: {_first_line(error)}") from error
            except (errors.UndefinedTable, errors.UndefinedColumn) as error:
                raise SchemaMismatch(f"{self._shown}: {_first_line(error)}; run `hareline migrate`") from error
            except BaseException:
                if cursor.connection.info.transaction_status != pq.TransactionStatus.IDLE:
                    self.close()  # an interrupt between two statements: whatever was begun is undone
                raise
        raise AssertionError("unreachable")

    def close(self) -> None:
        """Close it, if it is this process's.  Idempotent."""
        cursor, self._cursor = self._cursor, None
        if cursor is None:
            return
        if self._pid != os.getpid():
            _inherited.append(cursor.connection)
            return
        cursor.connection.close()

    def _open(self) -> Cursor:
        if self._cursor is not None and self._pid == os.getpid():
            return self._cursor
        self.close()
        try:
            connection: psycopg.Connection[Row] = psycopg.connect(
                self._dsn,
                autocommit=True,
                application_name=f"hareline {self._name}",
                connect_timeout=_CONNECT_S,
                keepalives_idle=30,
                keepalives_interval=10,
                keepalives_count=3,
                tcp_user_timeout=60_000,
            )
            try:
                # Not as libpq "options": a pooler refuses those.
                setting = ", ".join(f"set_config('{name}', '{value}', false)" for name, value in _SETTINGS.items())
                connection.execute(f"SELECT {setting}")
            except BaseException:
                connection.close()
                raise
        except psycopg.Error as error:
            raise LedgerUnavailable(f"{self._shown}: {_first_line(error)}") from error
        self._cursor, self._pid = Cursor(connection), os.getpid()
        return self._cursor


def _rows(cursor: psycopg.RawCursor[Row]) -> list[Row]:
    # Not `cursor.description`: it builds an object per column to say the same.
    result = cursor.pgresult
    return cursor.fetchall() if result is not None and result.status == pq.ExecStatus.TUPLES_OK else []


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__

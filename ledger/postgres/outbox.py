"""Somebody's psycopg connection, in the middle of a transaction."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import pq
from psycopg.rows import tuple_row

from errors import LedgerUnavailable, Refusal
from ledger.postgres import enqueue
from ledger.postgres.connection import Row, Statements
from ledger.postgres.replay import replayed
from ledger.records import Enqueued, NewJob
from ledger.statements import statements


@dataclass
class Home:
    """The ledger's database, which a connection must be of.  Thread-safe."""

    dsn: str
    shown: str
    embedded: bool
    _known: Row | None = field(default=None, init=False)

    def demand(self, theirs: Row, info: psycopg.ConnectionInfo) -> None:
        """Raise ``Refusal`` unless ``theirs``, the answer to "identity", is the ledger's own; ``LedgerUnavailable``."""
        if theirs == self._known:
            return
        self._known = ours = self._ask()  # always: since the last time the server may have been started again
        if theirs == ours:
            return
        place = f"the connection is to database {info.dbname!r} at {info.host}:{info.port}, the ledger is {self.shown}"
        if theirs[:2] == ours[:2]:
            raise Refusal(f"{place}: there it finds other tables than the ledger's; look at its search_path")
        raise Refusal(f"{place}: only the ledger's own database can record jobs in your transaction (DATABASE_URL)")

    def record(self, given: Statements, jobs: Sequence[NewJob], publish_after_s: float) -> list[Enqueued]:
        """The statements of one enqueue, on any connection."""
        if any(job.key is not None or job.line is not None for job in jobs):
            [(level,)] = given.run("isolation")
            if level != "read committed":
                # Its snapshot would show a key's holder as it was when the transaction began.
                raise Refusal(
                    f"a unique job, or one of a sequence, cannot be sent in a {level.upper()} transaction; use READ "
                    "COMMITTED"
                )
        return enqueue.record(given, jobs, embedded=self.embedded, publish_after_s=publish_after_s)

    def _ask(self) -> Row:
        try:
            with psycopg.connect(self.dsn, connect_timeout=10) as connection:
                row = connection.execute(statements("postgres")["identity"]).fetchone()
        except psycopg.OperationalError as error:
            raise LedgerUnavailable(f"{self.shown}: {error}") from error
        assert row is not None
        return row


class PostgresOutbox:
    def __init__(self, home: Home, connection: psycopg.Connection[Any]) -> None:
        self._home = home
        self._connection = connection
        self._at_home = False

    @property
    def idle(self) -> bool:
        return _idle(self._connection)

    def record(self, jobs: Sequence[NewJob], *, publish_after_s: float) -> list[Enqueued]:
        _demand_transaction(self._connection)
        given = _Given(self._connection)
        if not self._at_home:
            self._home.demand(given.run("identity")[0], self._connection.info)
            self._at_home = True
        return self._home.record(given, jobs, publish_after_s)


class AsyncPostgresOutbox:
    def __init__(self, home: Home, connection: psycopg.AsyncConnection[Any]) -> None:
        self._home = home
        self._connection = connection
        self._at_home = False

    @property
    def idle(self) -> bool:
        return _idle(self._connection)

    async def record(self, jobs: Sequence[NewJob], *, publish_after_s: float) -> list[Enqueued]:
        _demand_transaction(self._connection)
        if not self._at_home:
            [theirs] = await self._run("identity")
            await asyncio.to_thread(self._home.demand, theirs, self._connection.info)
            self._at_home = True
        return await replayed(lambda given: self._home.record(given, jobs, publish_after_s), self._run)

    async def _run(self, name: str, *parameters: object) -> list[Row]:
        async with psycopg.AsyncRawCursor(self._connection, row_factory=tuple_row) as cursor:
            await cursor.execute(statements("postgres")[name], parameters)
            return await cursor.fetchall() if cursor.description is not None else []


class _Given:
    """Statements on a connection that may have its own ideas of rows, and of preparing statements."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._cursor = psycopg.RawCursor(connection, row_factory=tuple_row)

    def run(self, name: str, *parameters: object) -> list[Row]:
        self._cursor.execute(statements("postgres")[name], parameters)
        return self._cursor.fetchall() if self._cursor.description is not None else []

    def run_after(
        self, name: str, lock: str, parameters: tuple[object, ...], lock_parameters: tuple[object, ...]
    ) -> list[Row]:
        self.run(lock, *lock_parameters)
        return self.run(name, *parameters)


def _idle(connection: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]) -> bool:
    return connection.closed or connection.info.transaction_status == pq.TransactionStatus.IDLE


def _demand_transaction(connection: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]) -> None:
    if connection.closed:
        raise Refusal("the connection given to transactional() is closed; open one, and commit it after the sends")
    if connection.info.transaction_status == pq.TransactionStatus.INERROR:
        raise Refusal("the transaction given to transactional() has failed: roll it back, nothing in it can be kept")
    if connection.autocommit and _idle(connection):
        raise Refusal(
            "the connection given to transactional() is in autocommit mode, and in no transaction to record the job "
            "in; open one around the sends, or leave transactional() out"
        )

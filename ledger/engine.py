"""SQLAlchemy's way to the ledger, for everything that is not the hot path.  Both databases, one behaviour."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from datetime import datetime
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool, QueuePool

from errors import LedgerError, LedgerUnavailable, SettingsError
from ledger import clock
from ledger.instants import from_micros
from ledger.tables import now

_shared: "ContextVar[tuple[URL, Connection] | None]" = ContextVar("shared", default=None)


class Database:
    """The ledger at ``url``, as SQLAlchemy connections.  Creating one does no I/O; thread-safe; fork-safe.

    ``read`` and ``write`` raise ``LedgerUnavailable`` when the database cannot be reached or breaks off.

    Parameters:
      busy: for what every job does.  On SQLite, the connection is kept between uses (a quarter of the CPU time)
        and a commit is not synced by itself: the next commit of the job's own session, which follows in the same
        write-ahead log, syncs both, so a job remembered as finished has its writes on the disk before it.
        Whoever asks for it calls :meth:`close`.
    """

    def __init__(self, url: str, *, busy: bool = False) -> None:
        self._url = make_url(url)
        self._busy = busy
        if self._url.drivername in ("postgresql", "postgres"):
            self._url = self._url.set(drivername="postgresql+psycopg")
        self.sqlite = self._url.get_backend_name() == "sqlite"
        if not self.sqlite and self._url.get_backend_name() != "postgresql":
            raise SettingsError(
                f"the ledger's url starts with {self._url.drivername!r}; use postgresql://… or sqlite:///…"
            )
        self._engines: dict[int, Engine] = {}  # by the process it is of
        if self.sqlite:
            from ledger.sqlite.file import path_of
            from ledger.sqlite.forks import Guard

            self._path = path_of(url)
            self._guard = Guard(self.close)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One consistent view of everything, however many statements; nothing is written."""
        with self._connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction, committed at the end, undone by any exception."""
        with self._connect(writes=True) as connection:
            yield connection

    @contextmanager
    def shared(self) -> Iterator[Connection]:
        """As :meth:`write`; and what this thread asks of the same ledger meanwhile, by any ``Database``, is part of it.

        What a session does, which has a connection of its own, is not.
        """
        with self.write() as connection:
            token = _shared.set((self._url, connection))
            try:
                yield connection
            finally:
                _shared.reset(token)

    @property
    def joins(self) -> bool:
        """Whether what is asked now is part of a larger transaction."""
        return (shared := _shared.get()) is not None and shared[0] == self._url

    def time(self, connection: Connection) -> datetime:
        """The database's clock, now."""
        if self.sqlite:  # the same clock as the session's; julianday('now') knows milliseconds only
            return from_micros(clock.micros())
        moment: datetime | None = connection.scalar(select(now()))
        assert moment is not None
        return moment

    def close(self) -> None:
        """Close idle connections.  Idempotent; a later use opens new ones."""
        if engine := self._engines.get(os.getpid()):
            engine.dispose()

    @contextmanager
    def _connect(self, *, writes: bool = False) -> Iterator[Connection]:
        if (shared := _shared.get()) is not None and shared[0] == self._url:
            yield shared[1]
            return
        with ExitStack() as stack:
            if self.sqlite:
                stack.enter_context(self._guard)
            try:
                connection = stack.enter_context(self._open().connect())
                if not self.sqlite:
                    level = "READ COMMITTED" if writes else "REPEATABLE READ"
                    connection = connection.execution_options(isolation_level=level)
                elif writes:
                    from ledger.sqlite.turn import turn

                    stack.enter_context(turn(self._path))
                    connection.info["begin"] = "BEGIN IMMEDIATE"
                with connection.begin():
                    yield connection
            except DBAPIError as error:
                raise self._explain(error.orig, broken=error.connection_invalidated) from error
            except self._driver_error as error:  # of what was done over the same connection without SQLAlchemy
                raise self._explain(error, broken=False) from error

    def _open(self) -> Engine:
        if self.sqlite:
            from ledger.sqlite.prepare import prepare

            if self._busy and not self._path.exists():
                self.close()  # what it has open is a file that was removed
            prepare(self._path)
        if engine := self._engines.get(os.getpid()):
            return engine
        for pid, parents in list(self._engines.items()):
            if pid != os.getpid():
                parents.dispose(close=False)  # its sockets: forgotten, not closed
        made = _sqlite(str(self._path), self._busy) if self.sqlite else create_engine(self._url, pool_pre_ping=True)
        return self._engines.setdefault(os.getpid(), made)  # the same for all threads that came first at once

    @property
    def _driver_error(self) -> type[Exception]:
        if self.sqlite:
            return sqlite3.Error
        import psycopg

        return psycopg.Error

    def _explain(self, error: BaseException | None, *, broken: bool) -> Exception:
        if self.sqlite:
            from ledger.sqlite.file import explain

            return explain(error, self._path)  # type: ignore[arg-type]
        import psycopg

        place = self._url.render_as_string(hide_password=True)
        said = " ".join(str(error).split())
        if isinstance(error, psycopg.ProgrammingError):
            said = error.diag.message_primary or said
            return LedgerError(f"{place} refused a statement: {said}; is its schema current? run `hareline migrate`")
        if isinstance(error, psycopg.OperationalError) or broken:
            return LedgerUnavailable(f"{place} cannot be used: {said} Start PostgreSQL there, or correct DATABASE_URL")
        return LedgerError(f"{place} refused a statement: {said}")


def _sqlite(path: str, busy: bool) -> Engine:
    # One at most, and none while the process forks: the guard sees to both (ledger/sqlite/forks.py).
    engine = create_engine(
        f"sqlite:///{path}", poolclass=QueuePool if busy else NullPool, connect_args={"timeout": 30.0}
    )

    @event.listens_for(engine, "connect")
    def _no_implicit_begin(connection: Any, _: object) -> None:
        connection.isolation_level = None
        if busy:
            connection.execute("PRAGMA synchronous = NORMAL")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql(connection.info.pop("begin", "BEGIN"))

    return engine

"""Schema revisions: bring a database up to what this code knows, and refuse to work on any other.

The application keeps its own tables with the same class, in another folder and under another table.

Alembic is imported where it is used: every command and worker that knows the actors would else pay for it.
"""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, create_engine, event, make_url, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from errors import LedgerUnavailable, SchemaMismatch
from ledger.revision import TABLE, refuse_other

if TYPE_CHECKING:
    from alembic.config import Config

_HERE = Path(__file__).parent / "migrations"
_SQLITE_WAIT_S = 60.0  # a second process waits this long for the first one's upgrade


class Migrations:
    """The revisions in ``location``, applied to the database at ``url`` and noted in ``table``.

    ``url`` is ``postgresql://…`` or ``sqlite:///…``.  Creating one does no I/O; every method opens a
    connection of its own and raises ``LedgerUnavailable`` when it cannot.
    """

    def __init__(self, url: str, *, location: Path = _HERE, table: str = TABLE) -> None:
        parsed = make_url(url)
        if parsed.drivername in ("postgresql", "postgres"):
            parsed = parsed.set(drivername="postgresql+psycopg")
        self._url = parsed
        self._table = table
        self._location = location

    @cached_property
    def _config(self) -> "Config":
        from alembic.config import Config

        config = Config()
        # Config is an ini file: a percent sign would start an interpolation.
        config.set_main_option("script_location", str(self._location).replace("%", "%%"))
        config.attributes["table"] = self._table
        return config

    def upgrade(self) -> None:
        """Apply what is missing, all or nothing.  Any number of processes may call it at once; one does the work."""
        from alembic import command

        with self._connect(exclusive=True) as connection:
            self._config.attributes["connection"] = connection
            try:
                command.upgrade(self._config, "head")
            finally:
                del self._config.attributes["connection"]

    def current(self) -> str | None:
        """The database's revision; None when it was never migrated."""
        from alembic.runtime.migration import MigrationContext

        with self._connect(exclusive=False) as connection:
            return MigrationContext.configure(connection, opts={"version_table": self._table}).get_current_revision()

    def head(self) -> str:
        """The revision this code knows."""
        from alembic.script import ScriptDirectory

        head = ScriptDirectory.from_config(self._config).get_current_head()
        if head is None:
            raise SchemaMismatch(f"there are no revisions in {self._config.get_main_option('script_location')}")
        return head

    def check(self) -> None:
        """Raise ``SchemaMismatch`` unless the database is exactly at :meth:`head`."""
        refuse_other(self._url.render_as_string(hide_password=True), self.current(), self.head(), self._table)

    @contextmanager
    def _connect(self, *, exclusive: bool) -> Iterator[Connection]:
        sqlite = self._url.get_backend_name() == "sqlite"
        if sqlite:
            engine = create_engine(self._url, poolclass=NullPool, connect_args={"timeout": _SQLITE_WAIT_S})

            @event.listens_for(engine, "connect")
            def _no_implicit_begin(connection: object, _: object) -> None:
                connection.isolation_level = None  # type: ignore[attr-defined]

            @event.listens_for(engine, "begin")
            def _begin(connection: Connection) -> None:
                # Exclusion before the first read: two upgrades that both read "empty" would both create.
                connection.exec_driver_sql("BEGIN IMMEDIATE" if exclusive else "BEGIN")

        else:
            engine = create_engine(self._url, poolclass=NullPool)
        try:
            with engine.begin() as connection:
                if exclusive and not sqlite:
                    key = zlib.crc32(f"hareline.migrate.{self._table}".encode())
                    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})
                yield connection
        except OperationalError as error:
            raise LedgerUnavailable(f"{self._url.render_as_string(hide_password=True)}: {error.orig}") from error
        finally:
            engine.dispose()

"""Schema revisions: bring a database up to what this code knows, and refuse to work on any other.

The application keeps its own tables with the same class, in another folder and under another table.

Alembic is imported where it is used: every command and worker that knows the actors would else pay for it.
"""

import logging
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, create_engine, event, make_url, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from errors import LedgerBusy, LedgerUnavailable, SchemaMismatch
from ledger.revision import TABLE, refuse_other

if TYPE_CHECKING:
    from alembic.config import Config

_HERE = Path(__file__).parent / "migrations"
_SQLITE_WAIT_S = 60.0  # a second process waits this long for the first one's upgrade
#: On PostgreSQL: while it waits for a table, whoever comes later waits behind it; so a little, and more than once.
_LOCK_S, _PAUSE_S, _TRIES = 3.0, 2.0, 10
_LOCK_NOT_AVAILABLE = "55P03"

#: Columns of other users' sessions are null for who is no superuser.
_HOLDERS = """
SELECT DISTINCT 'process ' || a.pid || ' (' || coalesce(nullif(a.application_name, ''), a.usename, 'unnamed')
  || coalesce(', ' || a.state, '')
  || coalesce(', in its transaction for ' || extract(epoch FROM clock_timestamp() - a.xact_start)::int || ' s', '')
  || ')'
FROM pg_locks AS l JOIN pg_class AS c ON c.oid = l.relation JOIN pg_stat_activity AS a ON a.pid = l.pid
WHERE l.granted AND l.pid <> pg_backend_pid() AND a.datname = current_database()
  AND c.relkind = 'r' AND c.relnamespace = current_schema()::regnamespace
  AND coalesce(a.xact_start < clock_timestamp() - interval '1 second', true)
"""

logger = logging.getLogger(__name__)


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
        """Apply what is missing, all or nothing.  Any number of processes may call it at once; one does the work.

        Raises ``LedgerBusy``, naming who has them, when others do not let go of tables that change.
        """
        for left in reversed(range(_TRIES)):
            try:
                self._upgrade()
                return
            except LedgerBusy as error:
                if not left:
                    raise LedgerBusy(f"{error}; nothing was changed.  {self._holders()}") from error
                logger.warning("tables that change are in use, the upgrade is tried again: %s", error)
                time.sleep(_PAUSE_S)

    def _upgrade(self) -> None:
        from alembic import command
        from alembic.runtime.migration import MigrationContext

        with self._connect(exclusive=True) as connection:
            context = MigrationContext.configure(connection, opts={"version_table": self._table})
            if (current := context.get_current_revision()) is not None and current > self.head():
                refuse_other(str(self._url), current, self.head(), self._table)
            self._config.attributes["connection"] = connection
            try:
                command.upgrade(self._config, "head")
            finally:
                del self._config.attributes["connection"]

    def _holders(self) -> str:
        with self._connect(exclusive=False) as connection:
            found = "; ".join(connection.scalars(text(_HOLDERS)))
        return (
            f"In use by: {found or 'nobody any more'}.  Let that end, or end it (pg_terminate_backend), and try again"
        )

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
                    connection.execute(text(f"SET LOCAL lock_timeout = '{_LOCK_S}s'"))
                yield connection
        except OperationalError as error:
            if getattr(error.orig, "sqlstate", None) == _LOCK_NOT_AVAILABLE:
                raise LedgerBusy(f"{self._url.render_as_string(hide_password=True)}: {error.orig}") from error
            raise LedgerUnavailable(f"{self._url.render_as_string(hide_password=True)}: {error.orig}") from error
        finally:
            engine.dispose()

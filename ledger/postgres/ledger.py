"""Where sessions come from, on PostgreSQL."""

from urllib.parse import urlsplit, urlunsplit

import psycopg

from errors import LedgerUnavailable, Refusal
from ledger.postgres.connection import Connection, Road
from ledger.postgres.outbox import AsyncPostgresOutbox, Home, PostgresOutbox
from ledger.postgres.session import PostgresSession
from ledger.revision import TABLE, newest, refuse_other


class PostgresLedger:
    """A ledger in PostgreSQL 13 or later, migrated beforehand (``hareline migrate``).  Thread-safe; fork-safe.

    Parameters:
      url: ``postgresql://user:password@host:port/database``, with libpq's options after ``?``.
      road: who serves waiting jobs: ``embedded`` (``take``) or ``rabbitmq`` (``claim``).
      publish_after_s: on RabbitMQ, seconds until the relay sends what its producer did not.
    """

    def __init__(self, url: str, *, road: Road, publish_after_s: float = 5.0) -> None:
        self._dsn = url
        self._road: Road = road
        self._publish_after_s = publish_after_s
        self.url = masked(url)
        self._home = Home(url, self.url, embedded=road == "embedded")

    def check(self) -> None:
        """Raise ``SchemaMismatch`` unless the database is at the revision this code knows."""
        try:
            with psycopg.connect(self._dsn, connect_timeout=10) as connection:
                (name,) = connection.execute("SELECT to_regclass(%s)::text", (TABLE,)).fetchone() or (None,)
                row = connection.execute(f"SELECT version_num FROM {TABLE}").fetchone() if name else None
        except psycopg.OperationalError as error:
            raise LedgerUnavailable(f"{self.url}: {error}") from error
        refuse_other(self.url, str(row[0]) if row else None, newest())

    def session(self, name: str) -> PostgresSession:
        """A session that connects at its first use; ``name`` shows in ``pg_stat_activity``."""
        return PostgresSession(
            Connection(self._dsn, name, shown=self.url), road=self._road, publish_after_s=self._publish_after_s
        )

    def outbox(self, connection: object) -> PostgresOutbox | AsyncPostgresOutbox:
        """Somebody's psycopg ``Connection`` or ``AsyncConnection``."""
        match connection:
            case psycopg.Connection():
                return PostgresOutbox(self._home, connection)
            case psycopg.AsyncConnection():
                return AsyncPostgresOutbox(self._home, connection)
        kind = type(connection)
        raise Refusal(
            f"transactional() cannot use a {kind.__module__}.{kind.__qualname__}: the ledger {self.url} takes "
            "connections of psycopg, and of SQLAlchemy over psycopg (postgresql+psycopg://…)"
        )


def masked(url: str) -> str:
    """``url`` without its password."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    user, _, host = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user.partition(':')[0]}:***@{host}"))

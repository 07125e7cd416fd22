"""Where sessions come from, on SQLite."""

import sqlite3

from errors import Refusal, SettingsError
from ledger.sqlite.connection import Connection, Road
from ledger.sqlite.file import path_of
from ledger.sqlite.outbox import SqliteOutbox
from ledger.sqlite.session import SqliteSession


class SqliteLedger:
    """A ledger in one file, created and migrated at a session's first use.  Thread-safe; fork-safe.

    Parameters:
      url: ``sqlite:///relative.db`` or ``sqlite:////absolute.db``.
      road: who serves waiting jobs: ``embedded`` (``take``) or ``rabbitmq`` (``claim``).
      publish_after_s: on RabbitMQ, seconds until the relay sends what its producer did not.
      synchronous: ``FULL``: a committed job survives a power cut.  ``NORMAL``: it survives the
        death of every process, but a power cut may undo the last moments; about twice as fast.
    """

    def __init__(
        self,
        url: str,
        *,
        road: Road = "embedded",
        publish_after_s: float = 5.0,
        synchronous: str = "FULL",
    ) -> None:
        if synchronous not in ("FULL", "NORMAL"):
            raise SettingsError(f"synchronous is {synchronous!r}; use FULL (survives a power cut) or NORMAL")
        self.url = url
        self._path = path_of(url)
        self._road: Road = road
        self._publish_after_s = publish_after_s
        self._synchronous = synchronous

    def check(self) -> None:
        """Nothing to refuse: the file is migrated at a session's first use."""

    def session(self, name: str) -> SqliteSession:
        """A session that opens the file at its first use; ``name`` has no use here."""
        return SqliteSession(
            Connection(
                self._path, road=self._road, publish_after_s=self._publish_after_s, synchronous=self._synchronous
            )
        )

    def outbox(self, connection: object) -> SqliteOutbox:
        """Somebody's ``sqlite3.Connection``."""
        if not isinstance(connection, sqlite3.Connection):
            kind = type(connection)
            raise Refusal(
                f"transactional() cannot use a {kind.__module__}.{kind.__qualname__}: the ledger {self.url} takes "
                "sqlite3's connections, and SQLAlchemy's over it"
            )
        return SqliteOutbox(self._path, connection, embedded=self._road == "embedded")

"""Where sessions come from, on SQLite."""

from errors import SettingsError
from ledger.sqlite.connection import Connection, Road, create_parent, path_of, refuse_network_filesystem
from ledger.sqlite.forks import Guard
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
        self._prepared = False
        self._preparing = Guard()

    def session(self, name: str) -> SqliteSession:
        """A session that opens the file at its first use; ``name`` has no use here."""
        return SqliteSession(self._connection(), self._prepare)

    def _connection(self) -> Connection:
        return Connection(
            self._path, road=self._road, publish_after_s=self._publish_after_s, synchronous=self._synchronous
        )

    def _prepare(self) -> None:
        """Create and migrate the file, once per process: nobody runs a command before a laptop's first job."""
        if self._prepared:
            return
        with self._preparing:
            if not self._prepared:
                from ledger.migrate import Migrations  # Alembic is slow to import, and only needed here

                refuse_network_filesystem(self._path)
                create_parent(self._path)
                # A file that cannot be written, or is no database, is found out here, by name.
                first = self._connection()
                with first.write():
                    pass
                first.close()
                Migrations(self.url).upgrade()
                self._prepared = True

"""What happened: every job, attempt and worker, recorded."""

from typing import Literal

from errors import SettingsError
from ledger.ledger import Ledger

Road = Literal["embedded", "rabbitmq"]

__all__ = ["Ledger", "Road", "open_ledger"]


def open_ledger(url: str, *, road: Road, publish_after_s: float = 5.0, synchronous: str = "FULL") -> Ledger:
    """The ledger at ``url``: ``postgresql://…`` or ``sqlite:///path``.  Does no I/O.

    Parameters:
      road: who delivers: ``rabbitmq`` leaves a ticket for the relay, ``embedded`` one that is ready to be taken.
      publish_after_s: how long the producer has for publishing before the relay does it (RabbitMQ only).
      synchronous: SQLite's ``PRAGMA synchronous``; PostgreSQL has ``synchronous_commit`` for that.
    """
    # One driver is enough: whoever runs on SQLite need not have psycopg, and the other way round.
    scheme = url.partition(":")[0]
    if scheme in ("postgresql", "postgres"):
        from ledger.postgres import PostgresLedger

        return PostgresLedger(url, road=road, publish_after_s=publish_after_s)
    if scheme == "sqlite":
        from ledger.sqlite import SqliteLedger

        return SqliteLedger(url, road=road, publish_after_s=publish_after_s, synchronous=synchronous)
    raise SettingsError(f"the ledger's url starts with {scheme!r}; use postgresql://… or sqlite:///path")

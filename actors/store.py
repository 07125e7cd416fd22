"""Where usage is kept: completion events and the bills they add up to."""

from decimal import Decimal
from pathlib import Path

from sqlalchemy import make_url, select, update
from sqlalchemy.dialects import postgresql, sqlite

from actors.events import CompletionEvent
from actors.per_process import per_process
from actors.tables import bills, usage_events
from ledger.engine import Database
from ledger.migrate import Migrations
from ledger.sqlite.file import path_of
from ledger.sqlite.forks import Guard
from ledger.sqlite.prepare import prepare
from settings import load

_STORED = [column for column in usage_events.c if column.name in CompletionEvent.model_fields]


def migrations(url: str) -> Migrations:
    """The migrations of the usage tables, in the ledger's database."""
    return Migrations(url, location=Path(__file__).parent / "migrations", table="hareline_app_revision")


class UsageStore:
    """The usage tables of one database.  Thread-safe; every method is one transaction."""

    def __init__(self, url: str) -> None:
        self._database = Database(url)
        self._insert = sqlite.insert if self._database.sqlite else postgresql.insert

    def record(self, completion: CompletionEvent) -> bool:
        """Store the event; false when its request id is known, and then the first one stays as it is."""
        row = completion.model_dump() | {"period": completion.period}
        insert = self._insert(usage_events).values(row).on_conflict_do_nothing().returning(usage_events.c.request_id)
        with self._database.write() as connection:
            return connection.execute(insert).one_or_none() is not None

    def find(self, request_id: str) -> CompletionEvent | None:
        """The stored event, or None."""
        with self._database.read() as connection:
            row = connection.execute(select(*_STORED).where(usage_events.c.request_id == request_id)).one_or_none()
        return None if row is None else CompletionEvent.model_validate(dict(row._mapping))

    def charge(self, request_id: str, cost: Decimal) -> bool:
        """Set the event's cost and add it to its period's bill; false when that had been done before.

        Exactly once: only the update that finds the cost still null goes on to touch the bill, and both
        commit together.  (Summing the bill anew each time would be as right, and slower with every event.)
        """
        charged = (
            update(usage_events)
            .where(usage_events.c.request_id == request_id, usage_events.c.cost.is_(None))
            .values(cost=cost)
            .returning(usage_events.c.customer, usage_events.c.period)
        )
        with self._database.write() as connection:
            row = connection.execute(charged).one_or_none()
            if row is None:
                return False
            bill = self._insert(bills).values(customer=row.customer, period=row.period, amount=cost, events=1)
            connection.execute(
                bill.on_conflict_do_update(
                    index_elements=[bills.c.customer, bills.c.period],
                    set_={
                        "amount": bills.c.amount + bill.excluded.amount,
                        "events": bills.c.events + bill.excluded.events,
                    },
                )
            )
            return True

    def close(self) -> None:
        """Close idle connections.  Idempotent; a later use opens new ones."""
        self._database.close()


@per_process
def store() -> UsageStore:
    """This process's store, in the database of the settings.

    An embedded database is migrated here, at its first use; PostgreSQL only by ``hareline migrate``.
    """
    url = load().database_url
    if make_url(url).get_backend_name() == "sqlite":
        with Guard():
            prepare(path_of(url))
            migrations(url).upgrade()
    return UsageStore(url)

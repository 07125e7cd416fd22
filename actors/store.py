"""Where usage is kept: completion events and the bills they add up to."""

from decimal import Decimal

from sqlalchemy import bindparam, select, update
from sqlalchemy.dialects import postgresql, sqlite

from actors.database import migrated, migrations
from actors.events import CompletionEvent
from actors.per_process import per_process
from actors.tables import bills, usage_events
from ledger.engine import Database

__all__ = ["UsageStore", "migrations", "store"]


class UsageStore:
    """The usage tables of one database.  Thread-safe; every method is one transaction."""

    def __init__(self, url: str) -> None:
        self._database = Database(url, busy=True)
        insert = sqlite.insert if self._database.sqlite else postgresql.insert
        event, bill = usage_events.c, insert(bills)
        self._record = insert(usage_events).on_conflict_do_nothing().returning(event.request_id)
        self._find = select(*(event[name] for name in CompletionEvent.model_fields)).where(
            event.request_id == bindparam("request")
        )
        self._price = (
            update(usage_events)
            .where(event.request_id == bindparam("request"), event.cost.is_(None))
            .values(cost=bindparam("amount"))
            .returning(event.customer, event.period)
        )
        self._bill = bill.on_conflict_do_update(
            index_elements=[bills.c.customer, bills.c.period],
            set_={"amount": bills.c.amount + bill.excluded.amount, "events": bills.c.events + 1},
        )

    def record(self, completion: CompletionEvent) -> bool:
        """Store the event; false when its request id is known, and then the first one stays as it is."""
        row = completion.model_dump() | {"period": completion.period}
        with self._database.write() as connection:
            return connection.execute(self._record, row).one_or_none() is not None

    def find(self, request_id: str) -> CompletionEvent | None:
        """The stored event, or None."""
        with self._database.read() as connection:
            row = connection.execute(self._find, {"request": request_id}).mappings().one_or_none()
        return None if row is None else CompletionEvent.model_validate(dict(row))

    def charge(self, request_id: str, cost: Decimal) -> bool:
        """Set the event's cost and add it to its period's bill; false when that had been done before.

        Exactly once: only the update that finds the cost still null goes on to touch the bill, and both
        commit together.  (Summing the bill anew each time would be as right, and slower with every event.)
        """
        with self._database.write() as connection:
            priced = connection.execute(self._price, {"request": request_id, "amount": cost}).mappings().one_or_none()
            if priced is not None:
                connection.execute(self._bill, {**priced, "amount": cost, "events": 1})
            return priced is not None

    def close(self) -> None:
        """Close idle connections.  Idempotent; a later use opens new ones."""
        self._database.close()


@per_process
def store() -> UsageStore:
    """This process's store, in the database of the settings."""
    return UsageStore(migrated())

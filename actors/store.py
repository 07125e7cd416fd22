"""Where usage is kept: completion events and the bills they add up to."""

from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import make_url

from actors.events import CompletionEvent
from actors.per_process import per_process
from actors.tables import bills, usage_events
from ledger.migrate import Migrations
from ledger.sqlite.forks import Guard
from settings import load

_STORED = [column for column in usage_events.c if column.name in CompletionEvent.model_fields]


def migrations(url: str) -> Migrations:
    """The migrations of the usage tables, in the ledger's database."""
    return Migrations(url, location=Path(__file__).parent / "migrations", table="hareline_app_revision")


class UsageStore:
    """The usage tables of one database.  Thread-safe; every method is one transaction."""

    def __init__(self, url: str) -> None:
        self._engine = _engine(url)
        self._embedded = self._engine.dialect.name == "sqlite"
        self._insert = sqlite.insert if self._embedded else postgresql.insert
        self._guard = Guard(self.close)

    def record(self, completion: CompletionEvent) -> bool:
        """Store the event; false when its request id is known, and then the first one stays as it is."""
        row = completion.model_dump() | {"period": completion.period}
        statement = self._insert(usage_events).values(row).on_conflict_do_nothing()
        with self._transaction() as connection:
            return connection.execute(statement).rowcount == 1

    def find(self, request_id: str) -> CompletionEvent | None:
        """The stored event, or None."""
        with self._transaction() as connection:
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
        with self._transaction() as connection:
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
        """Close every idle connection; the next transaction opens one."""
        self._engine.dispose()

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        if self._embedded:
            # One at a time: waiting in our queue is fairer than in SQLite's.  And none during a fork.
            with self._guard, self._engine.begin() as connection:
                yield connection
        else:
            with self._engine.begin() as connection:
                yield connection


@per_process
def store() -> UsageStore:
    """This process's store, in the database of the settings.

    An embedded database is migrated here, at its first use; PostgreSQL only by ``hareline migrate``.
    """
    url = load().database_url
    if make_url(url).get_backend_name() == "sqlite":
        migrations(url).upgrade()
    return UsageStore(url)


def _engine(url: str) -> Engine:
    if make_url(url).get_backend_name() != "sqlite":
        return create_engine(url, pool_pre_ping=True)
    engine = create_engine(url, connect_args={"timeout": 30, "isolation_level": None})
    event.listen(engine, "connect", _prepare)
    event.listen(engine, "begin", _begin_immediate)
    return engine


def _prepare(connection: Any, record: object) -> None:
    # The ledger's commits, which follow in the same write-ahead log, sync these too: a job that the
    # disk remembers as completed has its writes there before it.
    connection.execute("PRAGMA synchronous = NORMAL")


def _begin_immediate(connection: Any) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")

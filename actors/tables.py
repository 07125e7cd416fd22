"""The usage tables.  They live in the ledger's database, under migrations of their own."""

from decimal import Decimal
from typing import Any

from sqlalchemy import BigInteger, Column, Index, Integer, MetaData, Numeric, Table, Text
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine

from actors.prices import DECIMALS
from ledger.tables import Instant


class Dollars(TypeDecorator[Decimal]):
    """US dollars to twelve decimals, exact: ``numeric`` in PostgreSQL; in SQLite, which has no decimals, an integer.

    Sums and increments in SQL are exact in both.  SQLite's integers end at 9.2 million dollars.
    """

    impl = Numeric(30, DECIMALS)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(BigInteger() if dialect.name == "sqlite" else Numeric(30, DECIMALS))

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> Any:
        if value is None or dialect.name != "sqlite":
            return value
        scaled = value.scaleb(DECIMALS)
        if scaled != int(scaled):
            raise ValueError(f"{value} dollars have more than {DECIMALS} decimals")
        return int(scaled)

    def process_result_value(self, value: Any, dialect: Dialect) -> Decimal | None:
        return Decimal(value).scaleb(-DECIMALS) if value is not None and dialect.name == "sqlite" else value


metadata = MetaData(naming_convention={"ix": "%(table_name)s_%(column_0_N_name)s", "pk": "%(table_name)s_pkey"})

usage_events = Table(
    "usage_events",
    metadata,
    Column("request_id", Text, primary_key=True),
    Column("customer", Text, nullable=False),
    Column("user", Text, nullable=False),
    Column("provider", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("input_tokens", Integer, nullable=False),
    Column("output_tokens", Integer, nullable=False),
    Column("cached_tokens", Integer, nullable=False),
    Column("latency_ms", Integer, nullable=False),
    Column("at", Instant, nullable=False),
    Column("period", Text, nullable=False),  # YYYY-MM, in UTC
    Column("cost", Dollars),  # null until priced; once set it is part of the bill
)
Index("usage_events_bill", usage_events.c.customer, usage_events.c.period)

bills = Table(
    "bills",
    metadata,
    Column("customer", Text, primary_key=True),
    Column("period", Text, primary_key=True),
    Column("amount", Dollars, nullable=False),
    Column("events", Integer, nullable=False),
)

"""The tables of the actors.  They live in the ledger's database, under migrations of their own."""

from array import array
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from sqlalchemy import (
    ARRAY,
    JSON,
    REAL,
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    Table,
    Text,
)
from sqlalchemy.dialects.postgresql import JSONB
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


class Vector(TypeDecorator[Sequence[float]]):
    """Floats of single precision: ``real[]`` in PostgreSQL, which pgvector reads as well; in SQLite their bytes."""

    impl = LargeBinary
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(LargeBinary() if dialect.name == "sqlite" else ARRAY(REAL()))

    def process_bind_param(self, value: Sequence[float] | None, dialect: Dialect) -> Any:
        if value is None or dialect.name != "sqlite":
            return value
        return array("f", value).tobytes()

    def process_result_value(self, value: Any, dialect: Dialect) -> Sequence[float] | None:
        return array("f", value) if value is not None and dialect.name == "sqlite" else value


def Json() -> TypeEngine[Any]:  # noqa: N802  a type, like those beside it
    """Anything JSON can hold."""
    return JSON().with_variant(JSONB(), "postgresql")


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

invoices = Table(
    "invoices",
    metadata,
    Column("customer", Text, primary_key=True),
    Column("period", Text, primary_key=True),
    Column("amount", Dollars, nullable=False),
    Column("events", Integer, nullable=False),
    Column("closed_at", Instant, nullable=False),
)

accounts = Table(
    "accounts",
    metadata,
    Column("user", Text, primary_key=True),
    Column("email", Text),
    Column("webhook_url", Text),
    Column("timezone", Text, nullable=False),
    Column("digest", Boolean, nullable=False),  # whether the day's notifications are mailed
)

entities = Table(
    "entities",
    metadata,
    Column("user", Text, primary_key=True),
    Column("type", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("content", Json(), nullable=False),
    Column("changed_at", Instant, nullable=False),
)

vectors = Table(
    "vectors",
    metadata,
    Column("user", Text, primary_key=True),
    Column("type", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("model", Text, nullable=False),
    Column("digest", Text, nullable=False),  # of the text it was made of
    Column("vector", Vector, nullable=False),
)

replies = Table(
    "replies",
    metadata,
    Column("request_id", Text, primary_key=True),
    Column("model", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("finish_reason", Text, nullable=False),
    Column("usage", Json(), nullable=False),  # the completion event that is reported
)

tool_calls = Table(
    "tool_calls",
    metadata,
    Column("id", Text, primary_key=True),
    Column("tool", Text, nullable=False),
    Column("outcome", Json(), nullable=False),
)

notifications = Table(
    "notifications",
    metadata,
    Column("id", Text, primary_key=True),
    Column("user", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("title", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("channel", Text, nullable=False),
    Column("data", Json(), nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("delivered_at", Instant),
    Column("read_at", Instant),
)
Index("notifications_of_user", notifications.c.user, notifications.c.created_at)

deadlines = Table(
    "deadlines",
    metadata,
    Column("id", Text, primary_key=True),
    Column("user", Text, nullable=False),
    Column("title", Text, nullable=False),
    Column("due_at", Instant, nullable=False),
)

mails = Table(  # those the server has taken
    "mails",
    metadata,
    Column("id", Text, primary_key=True),
    Column("sent_at", Instant, nullable=False),
)

deliveries = Table(  # webhooks the receiver has taken
    "webhook_deliveries",
    metadata,
    Column("event", Text, primary_key=True),
    Column("url", Text, primary_key=True),
    Column("status", Integer, nullable=False),
    Column("delivered_at", Instant, nullable=False),
)

datasets = Table(
    "datasets",
    metadata,
    Column("id", Text, primary_key=True),
    Column("path", Text, nullable=False),
    Column("fingerprint", Text, nullable=False),  # of the file, as it was when it was begun
    Column("rows", Integer, nullable=False),
    Column("rejected", Json(), nullable=False),  # the first lines that could not be read, and why
    Column("rejects", Integer, nullable=False),
    Column("position", BigInteger, nullable=False, server_default="0"),  # where the next row begins
    Column("line", Integer, nullable=False, server_default="0"),
    Column("finished_at", Instant),
)

dataset_rows = Table(
    "dataset_rows",
    metadata,
    Column("dataset", Text, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("row", Json(), nullable=False),
)

mailboxes = Table(
    "mailboxes",
    metadata,
    Column("account", Text, primary_key=True),  # its address
    Column("user", Text, nullable=False),
    Column("tokens", Text),  # sealed where there is a key; null when it is not connected any more
    Column("why", Text),  # then, why that is
    Column("connected_at", Instant, nullable=False),
    Column("refreshing_until", Instant),
    Column("history_id", Text),
    Column("full_from", Text),
    Column("page", Text),
    Column("listed", Integer, nullable=False, server_default="0"),
)

letters = Table(  # mails that were fetched
    "letters",
    metadata,
    Column("account", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("thread", Text, nullable=False),
    Column("labels", Json(), nullable=False),
    Column("received_at", Instant, nullable=False),
    Column("size", Integer, nullable=False),  # bytes of the source
    Column("message_id", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("sender", Text, nullable=False),
    Column("recipients", Json(), nullable=False),
    Column("sent_at", Instant),  # as it says
    Column("text", Text, nullable=False),
    Column("html", Text, nullable=False),
    Column("attachments", Json(), nullable=False),
    Column("problems", Json(), nullable=False),  # what of it could not be read
)
Index("letters_by_time", letters.c.account, letters.c.received_at)

chain_cursors = Table(
    "chain_cursors",
    metadata,
    Column("chain", BigInteger, primary_key=True, autoincrement=False),
    Column("number", BigInteger, nullable=False),  # of the last block that was looked at; -1 is before the first
    Column("hash", Text, nullable=False),
    Column("first", BigInteger, nullable=False),  # nothing up to this block was ever looked at
)

chain_blocks = Table(  # the last ones that were looked at, to know them again
    "chain_blocks",
    metadata,
    Column("chain", BigInteger, primary_key=True, autoincrement=False),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("hash", Text, nullable=False),
    Column("parent", Text, nullable=False),
)

chain_matches = Table(
    "chain_matches",
    metadata,
    Column("chain", BigInteger, primary_key=True, autoincrement=False),
    Column("block_hash", Text, primary_key=True),
    Column("log_index", Integer, primary_key=True, autoincrement=False),
    Column("number", BigInteger, nullable=False),
    Column("transaction_hash", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("topics", Json(), nullable=False),
    Column("data", Text, nullable=False),
    Column("removed", Boolean, nullable=False),  # its block is not on the chain any more
    Column("revision", Integer, nullable=False),  # goes up each time it is removed, or is there again
    Column("found_at", Instant, nullable=False),
)
Index("chain_matches_of_block", chain_matches.c.chain, chain_matches.c.number)

chain_halts = Table(  # why no chain is watched, once there is a dead letter that says so
    "chain_halts",
    metadata,
    Column("id", Text, primary_key=True),
    Column("code", Text, nullable=False),
    Column("job", Text, nullable=False),
)

chain_deployments = Table(
    "chain_deployments",
    metadata,
    Column("chain", BigInteger, primary_key=True, autoincrement=False),
    Column("id", Text, primary_key=True),  # what it is; of a forced one, the job
    Column("address", Text, nullable=False),
    Column("sender", Text, nullable=False),
    Column("nonce", BigInteger, nullable=False),
    Column("transaction_hash", Text, nullable=False),
    Column("raw", Text, nullable=False),  # the signed transaction: sent again, it is the same one
    Column("signed_at", Instant, nullable=False),
    Column("proved_at", Instant),
)

"""Kinds of columns, and the time, as either database has them."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    BigInteger,
    MetaData,
    String,
    Text,
)
from sqlalchemy.dialects.postgresql import TIMESTAMP, TSVECTOR, UUID
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.expression import FunctionElement
from sqlalchemy.types import TypeDecorator, TypeEngine

from ledger.instants import from_micros, to_micros


class Instant(TypeDecorator[datetime]):
    """A moment: ``timestamptz`` in PostgreSQL, whole microseconds since 1970 in SQLite; aware UTC in Python."""

    impl = BigInteger
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(TIMESTAMP(timezone=True) if dialect.name == "postgresql" else BigInteger())

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        return value if value is None or dialect.name == "postgresql" else to_micros(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        return value if value is None or dialect.name == "postgresql" else from_micros(value)


class JobId(TypeDecorator[str]):
    """``uuid`` in PostgreSQL, text in SQLite; text in Python."""

    impl = String(36)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(UUID(as_uuid=False) if dialect.name == "postgresql" else String(36))


class Words(TypeDecorator[str]):
    """A set of words: ``tsvector`` in PostgreSQL, text with a space around each in SQLite."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(TSVECTOR() if dialect.name == "postgresql" else Text())


class now(FunctionElement[datetime]):
    """The database's clock, now; not the start of the transaction."""

    type = Instant()
    inherit_cache = True


@compiles(now, "postgresql")
def _now_postgresql(element: now, compiler: Any, **kw: Any) -> str:
    return "clock_timestamp()"


@compiles(now, "sqlite")
def _now_sqlite(element: now, compiler: Any, **kw: Any) -> str:
    # unixepoch('subsec') needs SQLite 3.42; Debian 12 has 3.40.
    return "CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER)"


metadata = MetaData(
    naming_convention={
        "ix": "%(table_name)s_%(column_0_N_name)s",
        "ck": "%(table_name)s_%(constraint_name)s",
        "pk": "%(table_name)s_pkey",
    }
)


def listed(kind: type[StrEnum]) -> str:
    """The words of an enumeration, for a CHECK."""
    return ", ".join(f"'{word}'" for word in kind)

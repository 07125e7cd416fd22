"""Durations and parts of a window, as each database reckons them."""

from datetime import datetime
from typing import Any

from sqlalchemy import Float, Integer, bindparam
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.expression import ColumnElement, FunctionElement

from ledger.tables import Instant


class seconds(FunctionElement[float]):
    """``seconds(later, earlier)``: the time between two instants."""

    type = Float()
    inherit_cache = True


@compiles(seconds, "postgresql")
def _seconds_postgresql(element: seconds, compiler: Any, **kw: Any) -> str:
    later, earlier = (compiler.process(part, **kw) for part in element.clauses)
    return f"EXTRACT(EPOCH FROM {later} - {earlier})::float8"


@compiles(seconds, "sqlite")
def _seconds_sqlite(element: seconds, compiler: Any, **kw: Any) -> str:
    later, earlier = (compiler.process(part, **kw) for part in element.clauses)
    return f"({later} - {earlier}) / 1e6"


class _floor(FunctionElement[int]):
    type = Integer()
    inherit_cache = True


@compiles(_floor, "postgresql")
def _floor_postgresql(element: _floor, compiler: Any, **kw: Any) -> str:
    return f"floor({compiler.process(element.clauses, **kw)})::int"


@compiles(_floor, "sqlite")
def _floor_sqlite(element: _floor, compiler: Any, **kw: Any) -> str:
    return f"CAST({compiler.process(element.clauses, **kw)} AS INTEGER)"


def bucket(at: ColumnElement[datetime], since: datetime, width_s: float) -> ColumnElement[int]:
    """In which part of a window, each so many seconds wide, an instant is; the first is 0.  Not for before it."""
    return _floor(seconds(at, bindparam(None, since, type_=Instant())) / width_s)

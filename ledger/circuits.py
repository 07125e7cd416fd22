"""The circuits as people see them."""

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import Connection, func, select

from ledger.breaker import Breaker, parts_of
from ledger.instants import to_micros
from ledger.tables import circuits, deferrals
from ledger.views import CircuitView


def listed(connection: Connection, now: datetime, within: Mapping[str, int]) -> list[CircuitView]:
    """Those that were ever used or opened, by name; ``within`` are the windows of those in the code, microseconds."""
    counts = connection.execute(select(deferrals.c.circuit, func.count()).group_by(deferrals.c.circuit))
    waiting: dict[str, int] = {name: count for name, count in counts}  # noqa: C416
    views = []
    for row in connection.execute(select(circuits).order_by(circuits.c.name)):
        breaker = Breaker(counted=parts_of(row.counted))
        calls, failures = breaker.window(to_micros(now), within.get(row.name, 0))
        left_s = None if row.until is None else max(0.0, (row.until - now).total_seconds())
        views.append(
            CircuitView(
                name=row.name,
                state="closed" if left_s is None else "open" if left_s else "half-open",
                since=row.since,
                by=row.changed_by,
                why=row.why,
                open_s=left_s,
                openings=row.openings,
                calls=calls,
                failures=failures,
                put_off=waiting.get(row.name, 0),
            )
        )
    return views

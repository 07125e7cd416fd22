"""When jobs started, according to the ledger."""

from bisect import bisect_left
from datetime import datetime

from tests.acceptance.system import System


def starts(system: System, actor: str) -> list[float]:
    """When the attempts that ran began, in seconds, in order."""
    rows = system.sql(
        "SELECT a.started_at FROM attempts a JOIN jobs j ON j.id = a.job_id "
        "WHERE j.actor = :actor AND a.outcome <> 'parked' AND a.outcome <> 'crashed'",
        actor=actor,
    )
    return sorted(map(seconds, (at for (at,) in rows)))


def seconds(at: datetime | int) -> float:
    """An instant as either database stores it, in seconds since 1970."""
    return at.timestamp() if isinstance(at, datetime) else at / 1_000_000


def busiest(times: list[float], window_s: float = 1.0) -> int:
    """The most starts within any such window; ``times`` in order."""
    return max(bisect_left(times, first + window_s) - index for index, first in enumerate(times))

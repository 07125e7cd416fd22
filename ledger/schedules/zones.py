"""When the clocks of a time zone are set back or forward."""

import difflib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

from errors import BadSchedule

_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Change:
    """From ``at`` on a zone's clocks show UTC and ``after``, instead of UTC and ``before``."""

    at: datetime
    before: timedelta
    after: timedelta


@lru_cache(maxsize=512)
def zone(name: str) -> ZoneInfo:
    """The time zone of that name.  Raises :class:`BadSchedule` with the nearest that exists."""
    try:
        return ZoneInfo(name)
    except (LookupError, ValueError, OSError):
        near = difflib.get_close_matches(name, available_timezones(), n=1, cutoff=0.5) or ["Europe/Vienna"]
        raise BadSchedule(f"there is no time zone {name!r}; write for example {near[0]}") from None


def offset(tz: ZoneInfo, at: datetime) -> timedelta:
    """What its clocks are ahead of UTC at an instant."""
    found = at.astimezone(tz).utcoffset()
    assert found is not None
    return found


def next_change(tz: ZoneInfo, after: datetime, until: datetime) -> Change | None:
    """The first change after the one instant, up to and with the other."""
    for year in range(after.year, until.year + 1):
        for change in _of_year(tz, year):
            if after < change.at <= until:
                return change
    return None


@lru_cache(maxsize=4096)
def _of_year(tz: ZoneInfo, year: int) -> tuple[Change, ...]:
    found = []
    at = datetime(year, 1, 1, tzinfo=UTC)
    while at.year == year:
        before, after = offset(tz, at), offset(tz, at + _DAY)
        if before != after:
            found.append(Change(_between(tz, at, at + _DAY), before, after))
        at += _DAY
    return tuple(found)


def _between(tz: ZoneInfo, low: datetime, high: datetime) -> datetime:
    """The second of the change between two instants with different offsets."""
    before = offset(tz, low)
    while high - low > timedelta(seconds=1):
        middle = low + timedelta(seconds=(high - low) // timedelta(seconds=2))
        if offset(tz, middle) == before:
            low = middle
        else:
            high = middle
    return high

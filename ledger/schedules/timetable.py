"""When a schedule fires: pure, the same in every process, whatever has fired before."""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import islice
from typing import Any, Literal, get_args
from zoneinfo import ZoneInfo

from errors import BadSchedule
from ledger.schedules.cron import calendar
from ledger.schedules.zones import next_change, offset, zone

#: What becomes of a cron time on the two nights on which clocks change.
Dst = Literal["once", "wall"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNITS_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_SECOND = timedelta(seconds=1)
#: Clocks are never set back by more, so an hour that comes twice began at most so long ago.
_LONGEST_FOLD = timedelta(days=1)
LONGEST_JITTER_S = 86_400.0


@dataclass(frozen=True)
class Timetable:
    """Fire times, each a whole second.

    Parameters:
      when: ``every 3s`` (``s``, ``m``, ``h``, ``d``, ``w``; ``1h30m``), counted from ``start``, or else from 1970, so
        that all schedulers agree; or cron: five fields, or six with the seconds first.
      tz: the time zone the cron fields are in.
      start, end: nothing fires before the one, nor after the other.  Aware.
      jitter_s: a tick is due up to so many seconds after its time; how many follows from the schedule and the time.
      dst: of a cron time that a night leaves out or repeats.
        "once": left out, it fires when the gap ends; repeated, only the first time.  Fields that mean every hour go by
          elapsed time instead: every minute is every minute, on those nights too.
        "wall": as the clock on the wall shows it: left out not at all, repeated twice.

    Raises :class:`BadSchedule` for what cannot be.
    """

    when: str
    tz: str = "UTC"
    start: datetime | None = None
    end: datetime | None = None
    jitter_s: float = 0.0
    dst: Dst = "once"

    def __post_init__(self) -> None:
        for name, moment in (("start", self.start), ("end", self.end)):
            if moment is not None and moment.tzinfo is None:
                raise BadSchedule(f"{name} {moment} has no time zone; write for example {moment.isoformat()}+00:00")
        if not 0 <= self.jitter_s <= LONGEST_JITTER_S:
            raise BadSchedule(f"jitter_s is {self.jitter_s!r}; give 0 to {LONGEST_JITTER_S:,.0f} seconds (a day)")
        if self.dst not in get_args(Dst):
            raise BadSchedule(f"dst is {' or '.join(get_args(Dst))}, got {self.dst!r}")
        zone(self.tz)
        if self.interval is None:
            calendar(self.when)
        if self.start and self.end and self.next(_EPOCH) is None:
            raise BadSchedule(f"{self.when!r} never comes between {self.start} and {self.end}")

    @cached_property
    def interval(self) -> timedelta | None:
        """The time between two ticks, unless it is cron."""
        if not self.when.startswith("every"):
            return None
        parts = re.fullmatch(r"every ((?:\d+[smhdw])+)", self.when)
        seconds = sum(int(n) * _UNITS_S[unit] for n, unit in re.findall(r"(\d+)([smhdw])", parts[1])) if parts else 0
        if not 0 < seconds <= 100 * 365 * 86_400:
            raise BadSchedule(f"{self.when!r} cannot be; write for example 'every 3s', 'every 5m' or 'every 1h30m'")
        return timedelta(seconds=seconds)

    def next(self, after: datetime) -> datetime | None:
        """The first fire time after an instant; None when there is none any more.  Aware, in UTC."""
        after = after.astimezone(UTC)
        if self.start is not None:
            after = max(after, self.start.astimezone(UTC) - timedelta(microseconds=1))
        found = self._next_interval(after) if self.interval is not None else self._next_cron(after)
        return None if found is None or (self.end is not None and found > self.end) else found

    def between(self, after: datetime, until: datetime) -> Iterator[datetime]:
        """The fire times after the one instant, up to and with the other."""
        moment = self.next(after)
        while moment is not None and moment <= until:
            yield moment
            moment = self.next(moment)

    def newest(self, after: datetime, until: datetime, most: int) -> list[datetime]:
        """The last ``most`` of :meth:`between`, in order; it looks back only as far as it must."""
        span = _SECOND
        while True:
            begin = max(after, until - span)
            found = list(self.between(begin, until))
            if len(found) >= most or begin == after:
                return found[-most:]
            span *= 4

    def due(self, key: str, fire_at: datetime) -> datetime:
        """When the tick of that schedule is to be sent: its fire time and its jitter."""
        if not self.jitter_s:
            return fire_at
        text = f"{key}\n{fire_at.astimezone(UTC).isoformat()}"
        share = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) / 2**64
        return fire_at + timedelta(seconds=share * self.jitter_s)

    def preview(self, after: datetime, count: int) -> list[datetime]:
        """The next fire times."""
        return list(islice(self.between(after, datetime.max.replace(tzinfo=UTC)), count))

    def _next_interval(self, after: datetime) -> datetime | None:
        # In whole seconds from the anchor, so that APScheduler's floats are exact.
        floor = after.replace(microsecond=0) + _SECOND
        found: datetime | None = self._intervals.get_next_fire_time(None, floor)
        return found

    @cached_property
    def _intervals(self) -> Any:
        from apscheduler.triggers.interval import IntervalTrigger

        assert self.interval is not None
        start = (self.start or _EPOCH).astimezone(UTC)
        anchor = start.replace(microsecond=0) + (_SECOND if start.microsecond else timedelta())
        return IntervalTrigger(seconds=int(self.interval.total_seconds()), start_date=anchor, timezone=UTC)

    def _next_cron(self, after: datetime) -> datetime | None:
        """Walk from one change of the clocks to the next: between two, the wall clock is UTC and a constant."""
        tz, times = zone(self.tz), calendar(self.when)
        once = self.dst == "once" and not times.fields.flows
        ahead = offset(tz, after)
        wall = _wall(after, ahead) + timedelta(microseconds=1)
        if once and (repeated := _repeated_until(tz, after)) is not None:
            wall = max(wall, repeated)
        while (found := times.first(wall)) is not None:
            change = next_change(tz, after, _instant(found, ahead))
            if change is None:
                return _instant(found, ahead)
            ends, begins = _wall(change.at, change.before), _wall(change.at, change.after)
            if once and found < begins:
                return change.at  # the gap left it out: when that ends
            wall = max(ends, begins) if once else begins
            after, ahead = change.at, change.after
        return None


def _repeated_until(tz: ZoneInfo, after: datetime) -> datetime | None:
    """If a fold may not be over yet: up to which wall-clock time everything was there before."""
    change = next_change(tz, after - _LONGEST_FOLD, after)
    return _wall(change.at, change.before) if change is not None and change.after < change.before else None


def _wall(at: datetime, ahead: timedelta) -> datetime:
    return at.replace(tzinfo=None) + ahead


def _instant(wall: datetime, ahead: timedelta) -> datetime:
    return (wall - ahead).replace(tzinfo=UTC)

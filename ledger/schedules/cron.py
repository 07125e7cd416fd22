"""Five or six fields of cron, as a calendar of wall-clock times.

APScheduler's trigger finds the next time.  It is kept in UTC, where no hour is missing and none comes twice: what
becomes of the two nights on which clocks change is decided in ``timetable.py``, not by a calendar's arithmetic.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from errors import BadSchedule

_NAMED = {
    "@yearly": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@hourly": "0 * * * *",
}
DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
#: A calendar that ends: a date that never comes is not looked for until the year 9999.
_END = datetime(2199, 12, 31, 23, 59, 59, tzinfo=UTC)


@dataclass(frozen=True)
class Fields:
    """What was written, with the weekdays as a set of names and nothing else changed."""

    second: str
    minute: str
    hour: str
    day: str
    month: str
    weekdays: tuple[str, ...]  #: empty: any

    @property
    def flows(self) -> bool:
        """Whether every hour is meant: then it goes by elapsed time, and no hour of a night is special."""
        return self.hour in ("*", "*/1", "0-23")


class Calendar:
    """The wall-clock times of cron fields.  Immutable."""

    def __init__(self, text: str) -> None:
        self.fields = fields = parse(text)
        self._triggers = _triggers(fields)
        if self.first(datetime(2000, 1, 1)) is None:
            raise BadSchedule(f"{text!r} never comes; correct the day or the month")

    def first(self, wall: datetime) -> datetime | None:
        """The first time at or after ``wall`` (naive, as the result)."""
        asked = wall.replace(tzinfo=UTC)
        found = [at for trigger in self._triggers if (at := trigger.get_next_fire_time(None, asked)) is not None]
        return min(found).replace(tzinfo=None) if found else None


@lru_cache(maxsize=4096)
def calendar(text: str) -> Calendar:
    """The calendar of cron fields, shared: a schedule per account is one calendar.  Raises :class:`BadSchedule`."""
    return Calendar(text)


def parse(text: str) -> Fields:
    """Raises :class:`BadSchedule` unless there are five fields, or six with the seconds first."""
    parts = _NAMED.get(text.strip().lower(), text).lower().split()
    if len(parts) == 5:
        parts = ["0", *parts]
    if len(parts) != 6:
        raise BadSchedule(
            f"{text!r} cannot be read; write 'every 3s', or five cron fields such as '0 3 * * mon-fri' "
            "(minute, hour, day, month, weekday), or six, with the seconds first"
        )
    second, minute, hour, day, month, weekday = parts
    return Fields(second, minute, hour, "last" if day == "l" else day, month, _weekdays(text, weekday))


def _weekdays(text: str, field: str) -> tuple[str, ...]:
    """Cron's own: 0 and 7 are Sunday; ranges may go round the end of the week.  (To APScheduler, 0 is Monday.)"""
    found: set[int] = set()
    for part in field.split(","):
        match = re.fullmatch(r"(?:\*|([a-z]{3}|\d)(?:-([a-z]{3}|\d))?)(?:/(\d+))?", part)
        first, last, step = (_day(match[1]), _day(match[2]), int(match[3] or 1)) if match else (None, None, 0)
        if match is None or not step or (match[1] and first is None) or (match[2] and last is None):
            raise BadSchedule(
                f"{text!r} cannot be read: {part!r} is no weekday; write sun, mon … sat, or 0 (Sunday) to 6"
            )
        if first is None:
            first, last = 0, 6
        elif last is None:
            last = first if not match[3] else 6
        found |= {(first + n) % 7 for n in range(0, (last - first) % 7 + 1, step)}
        if match[2] == "7" and match[1] in ("0", "7"):
            found |= set(range(0, 7, step))
    return () if len(found) == 7 else tuple(DAYS[n] for n in sorted(found))


def _day(name: str | None) -> int | None:
    if name is None:
        return None
    if name.isdecimal():
        return int(name) % 7 if int(name) <= 7 else None
    return DAYS.index(name) if name in DAYS else None


def _triggers(fields: Fields) -> list[Any]:
    from apscheduler.triggers.cron import CronTrigger  # a producer that declares no cron need not wait for it

    shared = {"second": fields.second, "minute": fields.minute, "hour": fields.hour, "month": fields.month}
    weekdays = ",".join(fields.weekdays) or "*"
    # As cron has always had it: of a day and a weekday one is enough, unless one of them begins with a star.
    either = fields.weekdays and not fields.day.startswith("*")
    kinds = [(fields.day, "*"), ("*", weekdays)] if either else [(fields.day, weekdays)]
    try:
        return [CronTrigger(**shared, day=day, day_of_week=days, timezone=UTC, end_date=_END) for day, days in kinds]
    except ValueError as error:
        raise BadSchedule(f"the cron fields {_written(fields)!r} cannot be read: {error}") from None


def _written(fields: Fields) -> str:
    day = ",".join(fields.weekdays) or "*"
    seconds = "" if fields.second == "0" else f"{fields.second} "
    return f"{seconds}{fields.minute} {fields.hour} {fields.day} {fields.month} {day}"

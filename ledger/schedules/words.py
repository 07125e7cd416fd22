"""A timetable in words: ``every weekday at 09:00 in Europe/Paris``."""

from collections.abc import Sequence

from ledger.schedules.cron import DAYS, Fields, calendar
from ledger.schedules.timetable import Timetable

_UNITS = (("week", 604_800), ("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1))
_DAYS = dict(zip(DAYS, ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"), strict=True))
_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
_SHORT = [month[:3].lower() for month in _MONTHS]


def words(timetable: Timetable) -> str:
    """One line for people; the time zone is named unless it makes no difference."""
    if timetable.interval is not None:
        text = f"every {_duration(int(timetable.interval.total_seconds()))}"
    else:
        fields = calendar(timetable.when).fields
        text = _clock(fields) if fields.flows and not _dated(fields) else f"{_days(fields)} {_at(fields)}"
        text += f" in {timetable.tz}"
    if timetable.jitter_s:
        text += f", up to {timetable.jitter_s:g} s later"
    if timetable.start is not None:
        text += f", from {timetable.start.isoformat(' ', 'minutes')}"
    if timetable.end is not None:
        text += f", until {timetable.end.isoformat(' ', 'minutes')}"
    return text


def _duration(seconds: int) -> str:
    parts = []
    for name, size in _UNITS:
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count} {name}{'s' if count > 1 else ''}")
    return _one(parts[0]) if len(parts) == 1 else _listed(parts)


def _one(part: str) -> str:
    """``1 minute`` is ``minute`` behind "every"."""
    return part.removeprefix("1 ")


def _dated(fields: Fields) -> bool:
    return fields.day != "*" or fields.month != "*" or bool(fields.weekdays)


def _clock(fields: Fields) -> str:
    """Of fields that mean every hour of every day."""
    if fields.second == fields.minute == "*":
        return "every second"
    if (step := _step(fields.second)) and fields.minute == "*":
        return f"every {step} seconds"
    at = "" if fields.second == "0" else f" at second {fields.second}"
    if fields.minute == "*":
        return f"every minute{at}"
    if step := _step(fields.minute):
        return f"every {step} minutes{at}"
    return f"every hour at minute {fields.minute}" + (f", second {fields.second}" if at else "")


def _step(field: str) -> str:
    return field.removeprefix("*/") if field.startswith("*/") and field != "*/1" else ""


def _at(fields: Fields) -> str:
    hours, minutes, seconds = (field.split(",") for field in (fields.hour, fields.minute, fields.second))
    if all(part.isdecimal() for part in (*hours, *minutes, *seconds)):
        second = [""] if seconds == ["0"] else [f":{int(s):02}" for s in seconds]
        times = [f"{int(h):02}:{int(m):02}{s}" for h in hours for m in minutes for s in second]
        return f"at {_listed(times)}"
    if minutes[0].isdecimal() or fields.hour == "*":
        hour = "every hour" if fields.hour == "*" else _span("hour", fields.hour)
        return f"in {hour}, at minute {fields.minute}" + (f", second {fields.second}" if fields.second != "0" else "")
    return f"in {_span('hour', fields.hour)}, {_clock(Fields(fields.second, fields.minute, '*', '*', '*', ()))}"


def _span(what: str, field: str) -> str:
    if step := _step(field):
        return f"every {step} {what}s"
    return f"{what}{'' if field.isdecimal() else 's'} {field.replace('-', ' to ')}"


def _days(fields: Fields) -> str:
    names = [_DAYS[day] for day in fields.weekdays]
    if list(fields.weekdays) == ["mon", "tue", "wed", "thu", "fri"]:
        week = "weekday"
    elif set(fields.weekdays) == {"sat", "sun"}:
        week = "Saturday and Sunday"
    else:
        week = _listed([*names[1:], names[0]] if names and names[0] == "Sunday" and len(names) > 1 else names)
    month = "" if fields.month == "*" else f" of {_months(fields.month)}"
    if fields.day == "*":
        return f"every {week or 'day'}{month}"
    if fields.day == "last":
        day = "on the last day"
    elif all(part.isdecimal() for part in fields.day.split(",")):
        day = f"on the {_listed([_ordinal(int(part)) for part in fields.day.split(',')])}"
    else:
        day = f"on {_span('day', fields.day)}"
    day += month or " of every month"
    if not week:
        return day
    return f"{day} {'and only' if fields.day.startswith('*') else 'and'} on every {week}"


def _months(field: str) -> str:
    def name(part: str) -> str:
        if part.isdecimal() and 1 <= int(part) <= 12:
            return _MONTHS[int(part) - 1]
        return _MONTHS[_SHORT.index(part)] if part in _SHORT else part

    if _step(field):
        return f"every {_step(field)} months"
    return _listed([" to ".join(name(end) for end in part.split("-")) for part in field.split(",")])


def _ordinal(number: int) -> str:
    suffix = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th") if number // 10 != 1 else "th"
    return f"{number}{suffix}"


def _listed(parts: Sequence[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)

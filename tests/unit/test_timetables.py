"""When schedules fire: a simulated year against a calendar that asks every minute, and the two odd nights by hand."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import takewhile
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim

from errors import BadSchedule
from ledger.schedules import Schedule
from ledger.schedules.missed import pending
from ledger.schedules.timetable import Dst, Timetable
from ledger.schedules.words import words
from scheduler import SCHEDULES

MINUTE = timedelta(minutes=1)
DAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]


# -- a year, minute by minute: another way to the same list, which shares nothing with ours but the zone's rules


def meant(field: str, low: int, high: int, names: list[str] = []) -> set[int]:  # noqa: B006
    """What a cron field means, as a set; of a star, all."""
    found: set[int] = set()
    for part in field.split(","):
        span, _, step = part.partition("/")
        first, _, last = (f"{low}-{high}" if span == "*" else span).partition("-")
        begin = names.index(first) if first in names else int(first)
        end = (
            begin if not last and not step else high if not last else names.index(last) if last in names else int(last)
        )
        found |= set(range(begin, end + 1, int(step or 1)))
    return found


class Fields:
    def __init__(self, text: str) -> None:
        minute, hour, day, month, weekday = text.split()
        self.minutes, self.hours = meant(minute, 0, 59), meant(hour, 0, 23)
        self.days, self.months = meant(day, 1, 31), meant(month, 1, 12)
        self.weekdays = {number % 7 for number in meant(weekday, 0, 6, DAYS)}
        self.either = day[0] != "*" and weekday[0] != "*"
        self.every_hour = hour == "*"

    def match(self, wall: datetime) -> bool:
        if wall.minute not in self.minutes or wall.hour not in self.hours or wall.month not in self.months:
            return False
        day, weekday = wall.day in self.days, (wall.weekday() + 1) % 7 in self.weekdays
        return (day or weekday) if self.either else (day and weekday)


@cache
def walls(zone: str, year: int) -> list[tuple[datetime, datetime]]:
    """Every minute of the year, with what the clocks of the zone show then."""
    at, tz, found = datetime(year, 1, 1, tzinfo=UTC), ZoneInfo(zone), []
    while at.year == year:
        found.append((at, at.astimezone(tz).replace(tzinfo=None)))
        at += MINUTE
    return found


def asked_every_minute(text: str, zone: str, year: int) -> Iterator[datetime]:
    """Fires at a minute that matches, unless it was on the wall before; and at the one after a gap that matches."""
    fields, seen = Fields(text), datetime.min
    for at, wall in walls(zone, year):
        left_out: list[datetime] = []
        if not fields.every_hour and seen != datetime.min:
            minute = seen + MINUTE
            while minute < wall:
                left_out.append(minute)
                minute += MINUTE
        repeated = wall <= seen and not fields.every_hour
        if any(map(fields.match, left_out)) or (not repeated and fields.match(wall)):
            yield at
        seen = max(seen, wall)


CRONS = pytest.mark.parametrize(
    ("text", "zone"),
    [
        *((schedule.when, schedule.tz) for schedule in SCHEDULES if schedule.timetable.interval is None),
        ("*/5 * * 3,11 *", "America/New_York"),
        ("30 2 * * *", "America/New_York"),
        ("15,45 */2 */3 * *", "America/New_York"),
        ("0 9 * * mon-fri", "America/New_York"),
        ("10 2 1,15 * fri", "America/New_York"),
        ("59 23 31 * *", "UTC"),
        ("0 0 29 2 *", "UTC"),
        ("7 1-4/2 */9 1-6 0,3", "Australia/Lord_Howe"),
    ],
)


@CRONS
@pytest.mark.parametrize("year", [2028])  # it has a 29th of February
def test_a_year_of_cron_is_what_a_look_at_every_minute_finds(text: str, zone: str, year: int) -> None:
    begin, end = datetime(year, 1, 1, tzinfo=UTC), datetime(year, 12, 31, 23, 59, tzinfo=UTC)
    expected = list(asked_every_minute(text, zone, year))
    assert expected
    assert list(Timetable(text, zone).between(begin - timedelta(seconds=1), end)) == expected


@CRONS
def test_a_year_of_cron_is_what_another_library_says(text: str, zone: str) -> None:
    """CronSim follows Debian's cron on the nights on which clocks change, and so do we."""
    begin, end = datetime(2028, 1, 1, tzinfo=UTC), datetime(2028, 12, 31, 23, 59, tzinfo=UTC)
    before = begin - timedelta(seconds=1)
    theirs = CronSim(text, before.astimezone(ZoneInfo(zone)))
    expected = [at.astimezone(UTC) for at in takewhile(lambda at: at <= end, theirs)]
    assert list(Timetable(text, zone).between(before, end)) == expected


def test_the_look_at_every_minute_tells_a_wrong_year() -> None:
    assert list(asked_every_minute("0 4 * * *", "UTC", 2028)) != list(asked_every_minute("0 3 * * *", "UTC", 2028))


# -- the two nights on which clocks change


def utc(text: str) -> datetime:
    return datetime.fromisoformat(f"{text}+00:00")


# zone: the night of the gap, what of it is left out; the night of the fold, what of it comes twice; the instants that
# follow from it: when the gap ends, the first time and the second time of the repeated one; how long both are.
NIGHTS = [
    ("Europe/Paris", "02:30", utc("2026-03-29 01:00"), "02:30", utc("2026-10-25 00:30"), 60),
    ("America/New_York", "02:15", utc("2026-03-08 07:00"), "01:15", utc("2026-11-01 05:15"), 60),
    ("Australia/Lord_Howe", "02:10", utc("2026-10-03 15:30"), "01:40", utc("2026-04-04 14:40"), 30),
    ("America/Santiago", "00:30", utc("2026-09-06 04:00"), "23:30", utc("2026-04-05 02:30"), 60),
    ("Asia/Beirut", "00:45", utc("2026-03-28 22:00"), "23:45", utc("2026-10-24 20:45"), 60),
]
ZONES = pytest.mark.parametrize(("zone", "left_out", "gap_ends", "repeated", "first", "minutes"), NIGHTS)


def fires(when: str, zone: str, around: datetime, hours: float = 9, dst: Dst = "once") -> list[datetime]:
    span = timedelta(hours=hours)
    return list(Timetable(when, zone, dst=dst).between(around - span - timedelta(seconds=1), around + span))


def daily(clock: str) -> str:
    hour, minute = clock.split(":")
    return f"{int(minute)} {int(hour)} * * *"


@ZONES
def test_a_daily_time_inside_the_gap_fires_once_when_the_gap_ends(
    zone: str, left_out: str, gap_ends: datetime, repeated: str, first: datetime, minutes: int
) -> None:
    assert fires(daily(left_out), zone, gap_ends) == [gap_ends]
    assert fires(daily(left_out), zone, gap_ends, dst="wall") == []
    assert len(fires(daily(left_out), zone, first)) == 1


@ZONES
def test_a_daily_time_inside_the_fold_fires_the_first_time_only(
    zone: str, left_out: str, gap_ends: datetime, repeated: str, first: datetime, minutes: int
) -> None:
    assert fires(daily(repeated), zone, first) == [first]
    assert fires(daily(repeated), zone, first, dst="wall") == [first, first + minutes * MINUTE]
    assert len(fires(daily(repeated), zone, gap_ends)) == 1


@ZONES
@pytest.mark.parametrize("when", ["* * * * *", "every 1m"])
def test_every_minute_and_an_interval_are_the_same_on_both_nights(
    zone: str, left_out: str, gap_ends: datetime, repeated: str, first: datetime, minutes: int, when: str
) -> None:
    for night in (gap_ends, first):
        expected = [night + n * MINUTE for n in range(-120, 121)]
        assert fires(when, zone, night, hours=2) == expected


@ZONES
def test_from_inside_the_fold_the_next_is_the_next_days(
    zone: str, left_out: str, gap_ends: datetime, repeated: str, first: datetime, minutes: int
) -> None:
    timetable = Timetable(daily(repeated), zone)
    for minute in range(minutes + 10):
        following = timetable.next(first + minute * MINUTE)
        assert following is not None
        assert following - first == timedelta(days=1, minutes=minutes)


def test_an_hour_that_no_clock_shows_is_in_no_list_twice() -> None:
    [one] = fires("*/10 2,3 * * *", "Europe/Paris", utc("2026-03-29 01:00"), hours=0.05)
    assert one == utc("2026-03-29 01:00")  # four times left out, and 03:00, are one


def test_a_date_that_a_country_left_out_fires_when_it_is_over() -> None:
    """Samoa went over the date line: after Thursday the 29th of December 2011 came Saturday the 31st."""
    assert fires("0 12 30 12 *", "Pacific/Apia", utc("2011-12-30 10:00"), hours=48) == [utc("2011-12-30 10:00")]


# -- what is written


@pytest.mark.parametrize(
    ("when", "tz", "said"),
    [
        ("every 3s", "UTC", "every 3 seconds"),
        ("every 1d", "UTC", "every day"),
        ("every 1h30m", "UTC", "every 1 hour and 30 minutes"),
        ("0 9 * * mon-fri", "Europe/Paris", "every weekday at 09:00 in Europe/Paris"),
        ("0 9 * * 1-5", "Europe/Paris", "every weekday at 09:00 in Europe/Paris"),
        ("30 18 * * sat,sun", "UTC", "every Saturday and Sunday at 18:30 in UTC"),
        ("0 3 * * *", "UTC", "every day at 03:00 in UTC"),
        ("5 0,12 * * *", "UTC", "every day at 00:05 and 12:05 in UTC"),
        ("* * * * *", "UTC", "every minute in UTC"),
        ("*/5 * * * *", "UTC", "every 5 minutes in UTC"),
        ("*/10 * * * * *", "UTC", "every 10 seconds in UTC"),
        ("20 * * * *", "UTC", "every hour at minute 20 in UTC"),
        ("30 15 4 * * *", "UTC", "every day at 04:15:30 in UTC"),
        ("@weekly", "UTC", "every Sunday at 00:00 in UTC"),
        ("0 0 last * *", "UTC", "on the last day of every month at 00:00 in UTC"),
        ("0 6 1,15 jan-mar *", "UTC", "on the 1st and 15th of January to March at 06:00 in UTC"),
        ("0 6 13 * fri", "UTC", "on the 13th of every month and on every Friday at 06:00 in UTC"),
        ("0 9-17 * * *", "UTC", "every day in hours 9 to 17, at minute 0 in UTC"),
    ],
)
def test_a_timetable_is_said_in_words(when: str, tz: str, said: str) -> None:
    assert words(Timetable(when, tz)) == said


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({"when": "every 3"}, "'every 3'"),
        ({"when": "every 0s"}, "'every 0s'"),
        ({"when": "0 25 * * *"}, "'0 25 "),
        ({"when": "0 3 * *"}, "five cron fields"),
        ({"when": "*/0 * * * *"}, "*/0"),
        ({"when": "0 3 * * 8"}, "'8' is no weekday"),
        ({"when": "0 3 * * mo"}, "'mo' is no weekday"),
        ({"when": "0 0 31 feb *"}, "never comes"),
        ({"when": "0 3 * * *", "tz": "Europe/Atlantis"}, "Europe/Atlantis"),
        ({"when": "0 3 * * *", "tz": "../etc/passwd"}, "../etc/passwd"),
        ({"when": "every 1s", "tz": "Europe"}, "'Europe'"),
        ({"when": "every 1s", "start": datetime(2026, 1, 1)}, "no time zone"),
        ({"when": "every 1s", "jitter_s": -1.0}, "jitter_s"),
        ({"when": "every 1s", "jitter_s": float("nan")}, "jitter_s"),
        ({"when": "every 1d", "start": utc("2026-01-02 00:00"), "end": utc("2026-01-01 00:00")}, "never comes"),
        ({"when": "every 1s", "dst": "twice"}, "dst is once or wall"),
        ({"when": "every 1s", "missed": "some"}, "missed is skip, latest, all"),
        ({"when": "every 1s", "overlap": "some"}, "overlap is allow"),
        ({"when": "every 1s", "within_s": float("inf")}, "within_s"),
        ({"when": "every 1s", "within_s": 7 * 86_400 + 1.0}, r"604,800 (seven days)"),
        ({"when": "every 1s", "most": 0}, "most is 0"),
    ],
)
def test_what_cannot_be_is_refused_by_name(fields: dict[str, object], names: str) -> None:
    with pytest.raises(BadSchedule) as caught:
        Schedule("tidy-up", "tidy", **fields)  # type: ignore[arg-type]
    assert str(caught.value).startswith("schedule 'tidy-up': ")
    assert names in str(caught.value)


def test_what_is_kept_is_what_is_read() -> None:
    from ledger.schedules.schedule import read

    schedule = Schedule(
        "a", "tidy", "0 3 * * *", "Europe/Paris", (1, "x"), {"b": [2]}, {"priority": 1}, utc("2026-01-01 00:00"), None,
        5.0, "wall", "all", 60.0, 3, "skip",
    )  # fmt: skip
    assert read("a", schedule.definition()) == schedule
    assert read("a", schedule.definition()).definition() == schedule.definition()


def test_start_and_end_bound_it_and_an_interval_counts_from_the_start() -> None:
    timetable = Timetable("every 10m", start=utc("2026-01-01 00:03"), end=utc("2026-01-01 00:23"))
    expected = [utc(f"2026-01-01 00:{minute}") for minute in ("03", "13", "23")]
    assert timetable.preview(utc("2020-01-01 00:00"), 9) == expected


def test_jitter_follows_from_the_schedule_and_the_time_alone() -> None:
    one, other = Timetable("every 1h", jitter_s=600), Timetable("every 1h", jitter_s=600)
    at = utc("2026-01-01 05:00")
    delays = {(one.due(key, at) - at).total_seconds() for key in map(str, range(200))}
    assert delays == {(other.due(key, at) - at).total_seconds() for key in map(str, range(200))}
    assert len(delays) == 200
    assert 0 <= min(delays) < 60 < 540 < max(delays) < 600


# -- late and missed

NOW = utc("2026-07-01 12:00:00")


def after(done_until: str, **fields: object) -> tuple[list[str], list[str]]:
    """What is sent, and from when to when ticks are missed, at noon, by the clock."""
    schedule = Schedule("a", "tidy", **{"when": "every 10m", **fields})  # type: ignore[arg-type]
    found = pending(schedule, utc(f"2026-07-01 {done_until}"), NOW)
    return [f"{at:%H:%M:%S}" for at in found.send], [f"{at:%H:%M:%S}" for at in found.missed or ()]


@pytest.mark.parametrize(
    ("done_until", "fields", "sent", "missed"),
    [
        ("12:00:00", {}, [], []),
        ("11:50:00", {}, ["12:00:00"], []),
        ("11:00:00", {}, ["12:00:00"], ["11:10:00", "11:50:00"]),
        ("11:00:00", {"when": "every 7m"}, ["11:59:00"], ["11:03:00", "11:52:00"]),
        ("11:00:00", {"when": "every 7m", "missed": "skip"}, [], ["11:03:00", "11:59:00"]),
        ("11:40:00", {"missed": "skip"}, ["12:00:00"], ["11:50:00", "11:50:00"]),
        ("11:00:00", {"missed": "all", "within_s": 1800}, ["11:40:00", "11:50:00", "12:00:00"], ["11:10:00", "11:30:00"]),  # noqa: E501
        ("11:00:00", {"missed": "all", "most": 2}, ["11:50:00", "12:00:00"], ["11:10:00", "11:40:00"]),
        ("11:30:00", {"missed": "all", "overlap": "queue"}, ["12:00:00"], ["11:40:00", "11:50:00"]),
        ("09:30:00", {"when": "0 10 * * *", "within_s": 3600}, [], ["10:00:00", "10:00:00"]),
        ("09:30:00", {"when": "0 10 * * *", "within_s": 7200.5}, ["10:00:00"], []),
        ("11:59:57", {"when": "every 1s", "missed": "skip"}, ["12:00:00"], ["11:59:58", "11:59:59"]),
        ("11:59:57", {"when": "every 1s", "missed": "all"}, ["11:59:58", "11:59:59", "12:00:00"], []),
    ],
)  # fmt: skip
def test_of_late_ticks_those_are_sent_that_the_policy_wants(
    done_until: str, fields: dict[str, object], sent: list[str], missed: list[str]
) -> None:
    assert after(done_until, **fields) == (sent, missed)


def test_a_year_of_seconds_that_were_missed_is_not_counted_one_by_one() -> None:
    found = pending(Schedule("a", "tidy", "* * * * * *"), NOW - timedelta(days=365), NOW)
    assert list(found.send) == [NOW]
    assert found.missed == (NOW - timedelta(days=365) + timedelta(seconds=1), NOW - timedelta(seconds=1))


def test_a_tick_that_its_jitter_puts_off_is_neither_sent_nor_missed_nor_overtaken() -> None:
    schedule = Schedule("a", "tidy", "every 1m", jitter_s=300, missed="all", most=100, within_s=3600)
    done, sent = NOW, []
    for second in range(1, 1800):
        now = NOW + timedelta(seconds=second)
        found = pending(schedule, done, now)
        assert found.missed is None
        for at in found.send:
            assert schedule.timetable.due("a", at) <= now
            sent.append(at)
            done = at
    assert sent == list(schedule.timetable.between(NOW, sent[-1]))
    assert len(sent) > 20

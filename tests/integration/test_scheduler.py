import json
import signal
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dramatiq
import pytest

from broker import Broker, build
from ledger.queries import Queries
from rabbitmq.management import passive_counts
from scheduler import BadSchedule, Schedule, first, plan
from settings import Settings
from tests.program import ROOT, Program, environment, hareline
from tests.servers import Postgres

EVERY_SECOND = """
import sys
from scheduler import Schedule, main
sys.exit(main([Schedule("beat", actor="cleanup_audit_log", when="every 1s", args=(0,), catch_up_s=0)]))
"""


def started(code: str, folder: Path, url: str, **env: str) -> Program:
    program = folder / "program.py"
    program.write_text(code)
    return Program([sys.executable, str(program)], folder, environment(DATABASE_URL=url, **env))


def events(program: Program, name: str) -> list[str]:
    """The ticks of every ``name`` line of the log."""
    found = [json.loads(line) for line in list(program.lines) if line.startswith("{")]
    return [line["tick"] for line in found if line["event"] == name]


def test_two_schedulers_send_every_tick_exactly_once(tmp_path: Path, database_url: str) -> None:
    with started(EVERY_SECOND, tmp_path, database_url) as one, started(EVERY_SECOND, tmp_path, database_url) as other:
        for program in (one, other):
            program.wait("scheduler.ready")
        for program in (one, other):
            program.wait('"tick"', count=5)
        assert one.stop() == 0
        assert other.stop() == 0
        sent = sorted(events(one, "schedule.sent") + events(other, "schedule.sent"))
        known = events(one, "schedule.known") + events(other, "schedule.known")
    assert len(sent) == len(set(sent))
    assert known
    assert set(known) <= set(sent)
    queries = Queries(database_url)
    jobs = queries.jobs(actor="cleanup_audit_log", limit=1000)
    queries.close()
    assert len(jobs) == len(sent)


def test_a_scheduler_takes_over_where_a_killed_one_left_off(tmp_path: Path, sqlite_url: str) -> None:
    with started(EVERY_SECOND, tmp_path, sqlite_url) as killed, started(EVERY_SECOND, tmp_path, sqlite_url) as other:
        for program in (killed, other):
            program.wait("scheduler.ready")
        killed.wait('"tick"')
        killed.send(signal.SIGKILL)
        seen = len(events(other, "schedule.sent"))
        other.wait("schedule.sent", count=seen + 3)
        ticks = events(other, "schedule.sent")[-3:]
    assert ticks == sorted(set(ticks))


def test_a_tick_waits_while_its_queue_is_full(tmp_path: Path, sqlite_url: str) -> None:
    with started(EVERY_SECOND, tmp_path, sqlite_url, HARELINE_QUEUES__MAINTENANCE__MAX_WAITING="1") as program:
        program.wait("schedule.sent")
        program.wait("schedule.waits", "is full")
        broker = build(Settings(database_url=sqlite_url))
        broker.flush("maintenance")
        broker.close()
        program.wait("schedule.sent", count=2)


def test_while_the_ledger_is_away_the_newest_tick_is_kept_and_sent_when_it_is_back(
    tmp_path: Path, postgres: Postgres, postgres_url: str
) -> None:
    with started(EVERY_SECOND, tmp_path, postgres_url) as program:
        program.wait("schedule.sent")
        postgres.stop()
        waiting = json.loads(program.wait("schedule.waits")[0])
        assert "127.0.0.1" in waiting["why"]
        superseded = json.loads(program.wait("schedule.superseded")[0])
        before = len(events(program, "schedule.sent"))
        postgres.start()
        program.wait("schedule.sent", count=before + 1)
        assert events(program, "schedule.sent")[before] >= superseded["by"]
        assert program.stop() == 0


def test_ticks_travel_over_rabbitmq(tmp_path: Path, postgres_url: str, rabbitmq_url: str) -> None:
    with started(EVERY_SECOND, tmp_path, postgres_url, BROKER_URL=rabbitmq_url) as program:
        program.wait("schedule.sent", count=2)
        assert program.stop() == 0  # and everything handed to RabbitMQ is confirmed
        sent = len(events(program, "schedule.sent"))
    assert passive_counts(rabbitmq_url, ["maintenance"])["maintenance"].messages == sent


def test_the_default_schedules_run_and_a_missed_tick_is_sent_late_but_not_twice(
    tmp_path: Path, sqlite_url: str
) -> None:
    env = environment(DATABASE_URL=sqlite_url)
    with Program([sys.executable, str(ROOT / "scheduler.py")], tmp_path, env) as program:
        program.wait("schedule.sent", "cleanup-audit-log")  # the last 03:00 is less than a day ago
        assert program.stop() == 0
    with Program(hareline("scheduler"), tmp_path, env) as program:
        program.wait("schedule.known", "cleanup-audit-log")
        assert program.stop(signal.SIGINT) == 0
    queries = Queries(sqlite_url)
    assert [job.queue for job in queries.jobs(actor="cleanup_audit_log")] == ["maintenance"]
    queries.close()


def test_a_schedule_that_the_settings_do_not_want_is_left_out_with_a_line_saying_why(
    tmp_path: Path, sqlite_url: str
) -> None:
    env = environment(DATABASE_URL=sqlite_url, AUDIT_LOG_RETENTION_DAYS="0")
    with Program(hareline("scheduler"), tmp_path, env) as program:
        [line] = program.wait("schedule.skipped")
        program.wait("scheduler.ready")
        assert program.stop() == 0
    assert "AUDIT_LOG_RETENTION_DAYS is 0" in line


def test_the_scheduler_refuses_to_start_with_a_schedule_that_cannot_work(tmp_path: Path, sqlite_url: str) -> None:
    bad = EVERY_SECOND.replace("every 1s", "0 25 * * *")
    with started(bad, tmp_path, sqlite_url) as program:
        assert program.process.wait(60) == 2
        [line] = program.wait("schedule 'beat'")
    assert "0 25 * * *" in line


def test_the_scheduler_refuses_a_schema_it_does_not_know(tmp_path: Path, postgres: Postgres) -> None:
    url = postgres.create_database()
    with started(EVERY_SECOND, tmp_path, url) as program:
        assert program.process.wait(60) == 5
        program.wait("hareline migrate")
    postgres.drop_database(url)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    made = build(Settings(database_url=f"sqlite:///{tmp_path}/unused.db"))
    dramatiq.actor(broker=made, actor_name="tidy", queue_name="upkeep")(_nothing)
    yield made
    made.close()


def _nothing() -> None:
    """Never run."""


@pytest.mark.parametrize(
    ("when", "zone", "words"),
    [
        ("every 3", "UTC", "every 3"),
        ("every 0s", "UTC", "every 0s"),
        ("0 25 * * *", "UTC", "0 25 * * *"),
        ("0 3 * *", "UTC", "five cron fields"),
        ("0 3 * * 0", "UTC", "by name"),
        ("0 0 31 feb *", "UTC", "never comes"),
        ("0 3 * * *", "Europe/Atlantis", "Europe/Atlantis"),
        ("0 3 * * *", "../etc/passwd", "../etc/passwd"),
    ],
)
def test_a_time_that_cannot_be_is_refused_by_name(broker: Broker, when: str, zone: str, words: str) -> None:
    with pytest.raises(BadSchedule) as caught:
        plan([Schedule("tidy-up", "tidy", when, zone)], Settings(), broker)
    assert "'tidy-up'" in str(caught.value)
    assert words in str(caught.value)


@pytest.mark.parametrize("catch_up_s", [7 * 86_400 + 1, float("inf"), float("nan"), -1])
def test_catching_up_on_ticks_that_may_be_forgotten_is_refused_by_name(broker: Broker, catch_up_s: float) -> None:
    assert plan([Schedule("tidy-up", "tidy", "every 1d", catch_up_s=7 * 86_400)], Settings(), broker)
    with pytest.raises(BadSchedule, match=r"'tidy-up': catch_up_s is .* 604,800 \(seven days\)"):
        plan([Schedule("tidy-up", "tidy", "every 1d", catch_up_s=catch_up_s)], Settings(), broker)


def test_an_unknown_actor_is_refused_with_the_nearest_one(broker: Broker) -> None:
    with pytest.raises(BadSchedule, match=r"'tidy-up'.*'tidi'.*nearest is tidy"):
        plan([Schedule("tidy-up", "tidi", "every 1s")], Settings(), broker)


def test_arguments_that_do_not_fit_the_actor_are_refused_by_name(broker: Broker) -> None:
    with pytest.raises(BadSchedule, match=r"'tidy-up'.*'tidy': takes 0 positional arguments, got 1"):
        plan([Schedule("tidy-up", "tidy", "every 1s", args=(1,))], Settings(), broker)


def test_a_key_may_be_there_once(broker: Broker) -> None:
    with pytest.raises(BadSchedule, match="twice"):
        plan([Schedule("a", "tidy", "every 1s"), Schedule("a", "tidy", "every 2s")], Settings(), broker)


def test_a_schedule_that_is_skipped_is_checked_all_the_same(broker: Broker) -> None:
    with pytest.raises(BadSchedule):
        plan([Schedule("a", "tidy", "nonsense", skip=lambda _: "off")], Settings(), broker)


NOW = datetime(2030, 7, 1, 12, 0, 1, 500_000, tzinfo=UTC)


@pytest.mark.parametrize(
    ("when", "zone", "catch_up_s", "expected"),
    [
        ("every 3s", "UTC", 0, datetime(2030, 7, 1, 12, 0, 3, tzinfo=UTC)),
        ("every 3s", "UTC", 60, datetime(2030, 7, 1, 12, 0, 0, tzinfo=UTC)),
        ("every 1d", "UTC", 60, datetime(2030, 7, 2, tzinfo=UTC)),
        ("0 3 * * *", "UTC", 3600, datetime(2030, 7, 2, 3, tzinfo=UTC)),
        ("0 3 * * *", "UTC", 86_400, datetime(2030, 7, 1, 3, tzinfo=UTC)),
        ("0 15 * * *", "Asia/Kolkata", 86_400, datetime(2030, 7, 1, 9, 30, tzinfo=UTC)),
        ("30 11 * * mon", "Europe/Vienna", 86_400, datetime(2030, 7, 1, 9, 30, tzinfo=UTC)),
        ("30 11 * * sun", "Europe/Vienna", 60, datetime(2030, 7, 7, 9, 30, tzinfo=UTC)),
    ],
)
def test_fire_times_follow_from_the_schedule_alone(when: str, zone: str, catch_up_s: float, expected: datetime) -> None:
    schedule = Schedule("a", "tidy", when, zone, catch_up_s=catch_up_s)
    assert first(schedule, schedule.trigger(), NOW) == expected
    assert first(schedule, schedule.trigger(), NOW + timedelta(milliseconds=400)) == expected

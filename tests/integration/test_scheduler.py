import json
import signal
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import dramatiq
import pytest
from sqlalchemy import update

from broker import Broker, build
from errors import BadSchedule
from ledger.engine import Database
from ledger.queries import Queries
from ledger.schedule_queries import ScheduleQueries, TickView
from ledger.schedules import Schedule
from ledger.tables import schedules
from ledger.ticks import TickOutcome
from rabbitmq.management import passive_counts
from scheduler import plan
from settings import Settings
from tests.program import ROOT, Program, environment, hareline
from tests.servers import Postgres

EVERY_SECOND = """
import sys
from scheduler import Schedule, main
sys.exit(main([Schedule("beat", actor="cleanup_audit_log", when="every 1s", args=(0,), missed="all")]))
"""


def started(code: str, folder: Path, url: str, **env: str) -> Program:
    program = folder / "program.py"
    program.write_text(code)
    return Program([sys.executable, str(program)], folder, environment(DATABASE_URL=url, **env))


def events(program: Program, name: str) -> list[str]:
    """The ticks of every ``name`` line of the log."""
    found = [json.loads(line) for line in list(program.lines) if line.startswith("{")]
    return [line["tick"] for line in found if line["event"] == name]


def last_tick(url: str, key: str = "beat") -> list[TickView]:
    queries = ScheduleQueries(url)
    found = queries.history(key, 10_000)
    queries.close()
    return found


def assert_every_second_once(url: str) -> None:
    """Of every second since the first there is one tick, and one job."""
    found = last_tick(url)
    seconds = [int(tick.fire_at.timestamp()) for tick in found]
    assert seconds == list(range(seconds[0], seconds[-1] - 1, -1))
    assert {tick.outcome for tick in found} == {TickOutcome.SENT}
    queries = Queries(url)
    jobs = queries.jobs(actor="cleanup_audit_log", limit=10_000)
    queries.close()
    assert sorted(tick.job or "" for tick in found) == sorted(job.id for job in jobs)


@pytest.mark.parametrize("step", ["tick.before_commit", "tick.committed"])
def test_a_killed_leader_is_replaced_in_seconds_and_no_tick_is_lost_or_doubled(
    tmp_path: Path, sqlite_url: str, step: str
) -> None:
    with started(EVERY_SECOND, tmp_path, sqlite_url, HARELINE_FAILPOINTS=f"{step}=kill@3") as killed:
        killed.wait("scheduler.leads")
        with started(EVERY_SECOND, tmp_path, sqlite_url) as other:
            assert killed.process.wait(60) == -signal.SIGKILL
            other.wait("scheduler.ready")
            ready = time.monotonic()
            other.wait("scheduler.leads")
            assert time.monotonic() - ready < 8
            other.wait("schedule.sent", count=4)
            assert other.stop() == 0
    assert_every_second_once(sqlite_url)


def test_a_leader_that_stops_hands_over_at_once(tmp_path: Path, postgres_url: str) -> None:
    with started(EVERY_SECOND, tmp_path, postgres_url) as one, started(EVERY_SECOND, tmp_path, postgres_url) as other:
        for program in (one, other):
            program.wait("scheduler.ready")
        leader, follower = (one, other)
        while not any("scheduler.leads" in line for line in leader.lines):
            leader, follower = follower, leader
            time.sleep(0.05)
        leader.wait("schedule.sent")
        leader.send(signal.SIGTERM)
        stopped = time.monotonic()
        follower.wait("scheduler.leads")
        assert time.monotonic() - stopped < 2.5  # 0.5 s, and what this machine needs
        follower.wait("schedule.sent", count=2)
        assert leader.process.wait(30) == 0
        assert follower.stop() == 0
    assert_every_second_once(postgres_url)


def test_a_second_signal_ends_a_scheduler_that_cannot_end_by_itself(tmp_path: Path, sqlite_url: str) -> None:
    hangs = "import threading, scheduler\nscheduler.Broker.close = lambda self: threading.Event().wait()\n"
    with started(hangs + EVERY_SECOND, tmp_path, sqlite_url) as program:
        program.wait("scheduler.ready")
        program.send(signal.SIGTERM)
        program.wait("scheduler.stopping")
        while program.process.poll() is None:
            program.send(signal.SIGTERM)
            time.sleep(0.1)
        assert program.process.returncode == 128 + signal.SIGTERM
        program.wait("scheduler.killed")


def test_a_tick_waits_while_its_queue_is_full(tmp_path: Path, sqlite_url: str) -> None:
    with started(EVERY_SECOND, tmp_path, sqlite_url, HARELINE_QUEUES__MAINTENANCE__MAX_WAITING="1") as program:
        program.wait("schedule.sent")
        program.wait("schedule.waits", "is full", count=2)
        broker = build(Settings(database_url=sqlite_url))
        broker.flush("maintenance")
        broker.close()
        program.wait("schedule.sent", count=2)


def test_ticks_that_came_due_while_the_ledger_was_away_are_sent_when_it_is_back(
    tmp_path: Path, postgres: Postgres, postgres_url: str
) -> None:
    with started(EVERY_SECOND, tmp_path, postgres_url) as program:
        program.wait("schedule.sent")
        postgres.stop()
        waiting = json.loads(program.wait("scheduler.waits")[0])
        assert "127.0.0.1" in waiting["why"]
        before = len(events(program, "schedule.sent"))
        time.sleep(2)
        postgres.start()
        program.wait("schedule.sent", count=before + 4)
        assert program.stop() == 0
    assert_every_second_once(postgres_url)


def test_ticks_travel_over_rabbitmq(tmp_path: Path, postgres_url: str, rabbitmq_url: str) -> None:
    with started(EVERY_SECOND, tmp_path, postgres_url, BROKER_URL=rabbitmq_url) as program:
        program.wait("schedule.sent", count=2)
        assert program.stop() == 0  # and everything handed to RabbitMQ is confirmed
        sent = len(events(program, "schedule.sent"))
    assert passive_counts(rabbitmq_url, ["maintenance"])["maintenance"].messages == sent


def test_a_tick_missed_while_no_scheduler_ran_is_sent_late_but_not_twice(tmp_path: Path, sqlite_url: str) -> None:
    env = environment(DATABASE_URL=sqlite_url)
    for command, count in (([sys.executable, str(ROOT / "scheduler.py")], 0), (hareline("scheduler"), 1)):
        with Program(command, tmp_path, env) as program:
            program.wait("scheduler.leads")
            program.wait("schedule.sent", count=count)
            assert program.stop(signal.SIGINT) == 0
        database = Database(sqlite_url)
        with database.write() as connection:  # as if the last one had stopped two days ago
            done_until = database.time(connection) - timedelta(days=2)
            connection.execute(update(schedules).where(schedules.c.last_job_id.is_(None)).values(done_until=done_until))
    with Program(hareline("scheduler"), tmp_path, env) as program:
        program.wait("scheduler.leads")
        assert program.stop() == 0
        assert not any("schedule.sent" in line for line in program.lines)
    [sent, missed] = last_tick(sqlite_url, "cleanup-audit-log")
    assert (sent.outcome, missed.outcome) == (TickOutcome.SENT, TickOutcome.MISSED)
    assert sent.fire_at - missed.fire_at == timedelta(days=1)
    assert sent.late_s is not None
    assert sent.late_s < 86_400


def test_a_schedule_that_the_settings_do_not_want_is_left_out_with_a_line_saying_why(
    tmp_path: Path, sqlite_url: str
) -> None:
    env = environment(DATABASE_URL=sqlite_url, AUDIT_LOG_RETENTION_DAYS="0")
    with Program(hareline("scheduler"), tmp_path, env) as program:
        program.wait("scheduler.ready")
        [line] = [line for line in program.wait("schedule.left_out") if "cleanup-audit-log" in line]
        assert program.stop() == 0
    assert "AUDIT_LOG_RETENTION_DAYS is 0" in line


def test_the_scheduler_refuses_to_start_with_a_schedule_that_cannot_work(tmp_path: Path, sqlite_url: str) -> None:
    with started(EVERY_SECOND.replace("_log", "_lock"), tmp_path, sqlite_url) as program:
        assert program.process.wait(60) == 2
        [line] = program.wait("schedule 'beat'")
    assert "the nearest is cleanup_audit_log" in line


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


def test_an_unknown_actor_is_refused_with_the_nearest_one(broker: Broker) -> None:
    with pytest.raises(BadSchedule, match=r"'tidy-up'.*'tidi'.*nearest is tidy"):
        plan([Schedule("tidy-up", "tidi", "every 1s")], Settings(), broker)


def test_arguments_that_do_not_fit_the_actor_are_refused_by_name(broker: Broker) -> None:
    with pytest.raises(BadSchedule, match=r"'tidy-up'.*'tidy': takes 0 positional arguments, got 1"):
        plan([Schedule("tidy-up", "tidy", "every 1s", args=(1,))], Settings(), broker)


def test_a_key_may_be_there_once(broker: Broker) -> None:
    with pytest.raises(BadSchedule, match="twice"):
        plan([Schedule("a", "tidy", "every 1s"), Schedule("a", "tidy", "every 2s")], Settings(), broker)


def test_a_schedule_that_is_left_out_is_checked_all_the_same(broker: Broker) -> None:
    with pytest.raises(BadSchedule):
        plan([Schedule("a", "tide", "every 1s", skip=lambda _: "off")], Settings(), broker)

"""Three schedulers, one of them with a wrong clock, whose leader is killed again and again.

``make prove`` gives it HARELINE_TEST_TICKS=1000, a kill every twenty seconds.
"""

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from errors import LedgerError
from ledger.engine import Database
from ledger.queries import Queries
from ledger.schedule_queries import ScheduleQueries
from ledger.tables import leases
from ledger.ticks import LEASE, TickOutcome
from tests.program import Program, environment
from tests.servers import Postgres, RabbitMQ

TICKS = int(os.environ.get("HARELINE_TEST_TICKS", "24"))
KILL_EVERY_S = 20.0 if TICKS > 100 else 7.0

#: Ninety seconds ahead, for everything in the process that asks Python for the time.
WRONG_CLOCK = """
import datetime, time
AHEAD = 90
real, seconds, nanoseconds = datetime.datetime, time.time, time.time_ns
class Known(type):
    def __instancecheck__(cls, value): return isinstance(value, real)
class Wrong(real, metaclass=Known):
    @classmethod
    def now(cls, tz=None): return cls.fromtimestamp(seconds() + AHEAD, tz)
time.time, time.time_ns = (lambda: seconds() + AHEAD), (lambda: nanoseconds() + AHEAD * 10**9)
datetime.datetime = Wrong
"""
PROGRAM = """
import sys
from scheduler import Schedule, main
sys.exit(main([Schedule("beat", actor="cleanup_audit_log", when="every 1s", args=(0,), missed="all", most=1000)]))
"""


class Schedulers:
    """Three at any time, by where they stand; the first has the wrong clock."""

    def __init__(self, folder: Path, url: str, broker_url: str, stack: ExitStack) -> None:
        self._env = environment(DATABASE_URL=url, BROKER_URL=broker_url)
        self._folder = folder
        self._stack = stack
        self._database = Database(url)
        self.running: list[Program] = []
        for number in range(3):
            (folder / f"scheduler-{number}.py").write_text((WRONG_CLOCK if number == 0 else "") + PROGRAM)
            self.running.append(self._start(number))
            if number == 0:
                self.running[0].wait("scheduler.leads")

    def _start(self, number: int) -> Program:
        command = [sys.executable, str(self._folder / f"scheduler-{number}.py")]
        return self._stack.enter_context(Program(command, self._folder, self._env))

    def kill_the_leader(self) -> None:
        """kill -9, and another in its place.  Nobody is killed while the ledger is away: nobody leads then."""
        try:
            with self._database.read() as connection:
                holder = connection.scalar(select(leases.c.holder).where(leases.c.name == LEASE)) or "::"
        except (LedgerError, SQLAlchemyError):
            return
        for number, program in enumerate(self.running):
            if str(program.process.pid) == holder.split(":")[1]:
                program.send(signal.SIGKILL)
                program.process.wait(10)
                self.running[number] = self._start(number)

    def stop(self) -> None:
        for program in self.running:
            program.wait("scheduler.ready")  # from then on it knows what a signal means
            program.send(signal.SIGTERM)
        assert [program.process.wait(60) for program in self.running] == [0, 0, 0]
        self._database.close()


@contextmanager
def three(folder: Path, url: str, broker_url: str) -> Iterator[Schedulers]:
    with ExitStack() as stack:
        yield Schedulers(folder, url, broker_url, stack)


@pytest.mark.timeout(TICKS * 2 + 180)
@pytest.mark.parametrize("restarts", [False, True] if TICKS > 100 else [True])
def test_every_tick_is_sent_exactly_once_while_leaders_are_killed_and_servers_restarted(
    tmp_path: Path, postgres: Postgres, postgres_url: str, rabbitmq: RabbitMQ, rabbitmq_url: str, restarts: bool
) -> None:
    with three(tmp_path, postgres_url, rabbitmq_url) as schedulers:
        began = time.monotonic()
        kill_at = began + KILL_EVERY_S
        restart_at = began + TICKS / 2
        while (now := time.monotonic()) < began + TICKS:
            if restarts and now >= restart_at:
                for server in (rabbitmq, postgres):
                    server.stop()
                    server.start()
                restart_at = began + 10 * TICKS
            if now >= kill_at:
                schedulers.kill_the_leader()
                kill_at += KILL_EVERY_S
            time.sleep(0.1)
        queries = ScheduleQueries(postgres_url)
        end = queries.time()
        while not (newest := queries.history("beat", 1)) or newest[0].fire_at < end:  # a leader may just have died
            assert time.monotonic() < began + TICKS + 60
            time.sleep(0.1)
        schedulers.stop()
    ticks = queries.history("beat", 10_000)
    queries.close()
    fired = [tick.fire_at for tick in ticks]
    assert len(fired) >= TICKS - 1
    assert fired == [fired[0] - timedelta(seconds=n) for n in range(len(fired))]
    assert {tick.outcome for tick in ticks} == {TickOutcome.SENT}
    assert [tick for tick in ticks if tick.at is None or tick.at < tick.fire_at] == []  # none before its time
    assert max(tick.late_s or 0 for tick in ticks) < 60
    everything = Queries(postgres_url)
    jobs = everything.jobs(actor="cleanup_audit_log", limit=10_000)
    everything.close()
    assert sorted(job.id for job in jobs) == sorted(tick.job or "" for tick in ticks)

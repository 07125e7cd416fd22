"""Three schedulers, one of them with a wrong clock, whose leader is killed again and again."""

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path

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

    def kill_the_leader(self) -> bool:
        """kill -9, and another in its place.  Nobody is killed while the ledger is away: nobody leads then."""
        try:
            with self._database.read() as connection:
                holder = connection.scalar(select(leases.c.holder).where(leases.c.name == LEASE)) or "::"
        except (LedgerError, SQLAlchemyError):
            return False
        for number, program in enumerate(self.running):
            if str(program.process.pid) == holder.split(":")[1]:
                program.send(signal.SIGKILL)
                program.process.wait(10)
                self.running[number] = self._start(number)
                return True
        return False

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


def campaign(
    folder: Path,
    postgres: Postgres,
    url: str,
    rabbitmq: RabbitMQ,
    broker_url: str,
    *,
    ticks: int,
    kill_every_s: float,
    restarts: bool,
) -> str:
    """Let them run for so many one-second ticks; every one must be sent exactly once.  What there was, in words."""
    kills = 0
    with three(folder, url, broker_url) as schedulers:
        began = time.monotonic()
        kill_at, restart_at = began + kill_every_s, began + ticks / 2
        while (now := time.monotonic()) < began + ticks:
            if restarts and now >= restart_at:
                for server in (rabbitmq, postgres):
                    server.stop()
                    server.start()
                restart_at = began + 10 * ticks
            if now >= kill_at:
                kills += schedulers.kill_the_leader()
                kill_at += kill_every_s
            time.sleep(0.1)
        queries = ScheduleQueries(url)
        end = queries.time()
        while not (newest := queries.history("beat", 1)) or newest[0].fire_at < end:  # a leader may just have died
            assert time.monotonic() < began + ticks + 60
            time.sleep(0.1)
        schedulers.stop()
    found = queries.history("beat", 10_000)
    queries.close()
    fired = [tick.fire_at for tick in found]
    assert kills
    assert len(fired) >= ticks - 1
    assert fired == [fired[0] - timedelta(seconds=n) for n in range(len(fired))]
    assert {tick.outcome for tick in found} == {TickOutcome.SENT}
    assert [tick for tick in found if tick.at is None or tick.at < tick.fire_at] == []  # none before its time
    latest_s = max(tick.late_s or 0 for tick in found)
    assert latest_s < 60
    everything = Queries(url)
    jobs = everything.jobs(actor="cleanup_audit_log", limit=10_000)
    everything.close()
    assert sorted(job.id for job in jobs) == sorted(tick.job or "" for tick in found)
    return f"{len(found):,} ticks, {kills} leaders killed, the latest tick {latest_s:.1f} s late"

"""The feed under fire: many sessions finish jobs at once, followers are killed, and none misses anything."""

import os
import signal
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from random import Random

import psycopg

from ledger.records import Finish, Ticket
from ledger.states import Outcome
from tests.ledger_under_test import LedgerUnderTest, new_job

ROOT = Path(__file__).parents[2]
JOBS, SESSIONS, BATCH = 2_000, 4, 10
WAIT_S = 60

#: Prints the job of every event.
_FOLLOWER = """
import sys
from control.feed import Feed

url, name = sys.argv[1:]
with Feed(url, name, names=["finished"]) as events:
    events.commit()
    for event in events:
        print(event.job, flush=True)
"""


class Follower:
    """A process that follows; killed and started again, it goes on where it was."""

    def __init__(self, url: str, name: str) -> None:
        self.command = [sys.executable, "-c", _FOLLOWER, url, name]
        self.seen: list[str] = []
        self.news = threading.Condition()
        self.begin()

    def begin(self) -> None:
        self.process = subprocess.Popen(self.command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        self.reader = threading.Thread(target=self._read, args=[self.process], daemon=True)
        self.reader.start()

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            if line.endswith("\n"):
                with self.news:
                    self.seen.append(line.strip())
                    self.news.notify_all()

    def wait(self, count: int) -> None:
        """Until it has told of so many jobs."""
        with self.news:
            assert self.news.wait_for(lambda: len(set(self.seen)) >= count, WAIT_S), len(set(self.seen))

    def kill(self) -> None:
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait(10)
        self.reader.join(10)
        assert self.process.stdout is not None
        self.process.stdout.close()


def finish_some(ledger: LedgerUnderTest, claimed: list[tuple[str, int]], seed: int) -> None:
    """One session's share, in batches of one to ten."""
    session, random = ledger.ledger.session("racer"), Random(seed)
    while claimed:
        some = [claimed.pop() for _ in range(min(len(claimed), random.randint(1, BATCH)))]
        ends = [random.choice([Outcome.COMPLETED, Outcome.COMPLETED, Outcome.FAILED]) for _ in some]
        answers = session.finish(
            ledger.worker, [Finish(id, epoch, end) for (id, epoch), end in zip(some, ends, strict=True)]
        )
        assert all(answer.accepted for answer in answers)
    session.close()


def test_followers_that_are_killed_see_every_finish(database_url: str) -> None:
    ledger = LedgerUnderTest(database_url, "rabbitmq")
    made = [new_job() for _ in range(JOBS)]
    ledger.session.enqueue(made)
    claims = ledger.session.claim(ledger.worker, [Ticket(job.id, 1, "q") for job in made])
    claimed = [(claim.id, claim.epoch) for claim in claims]
    held_id, held_epoch = claimed.pop(0)
    followers = [Follower(database_url, name) for name in ("billing", "audit")]
    with ExitStack() as stack:
        for follower in followers:
            stack.callback(follower.kill)
        registered = "SELECT count(*) FROM followers"
        while ledger_value(ledger, registered) < len(followers):
            assert all(follower.process.poll() is None for follower in followers)
        shares = [claimed[n::SESSIONS] for n in range(SESSIONS)]
        halves = [[share[: len(share) // 2] for share in shares], [share[len(share) // 2 :] for share in shares]]
        race(ledger, halves[0], followers)
        late = None if ledger.database.sqlite else psycopg.connect(database_url)
        if late is not None:  # it has its number now, and commits when hundreds of higher ones have
            late.execute(
                "INSERT INTO attempts (job_id, epoch, number, outcome, worker_id, started_at, finished_at, tx) VALUES"
                " (%s, %s, 1, 'completed', 1, now(), now(), pg_current_xact_id()::text::bigint)",
                (held_id, held_epoch),
            )
        else:
            ledger.finish(made[0], held_epoch, Outcome.COMPLETED)
        race(ledger, halves[1], followers)
        if late is not None:
            late.commit()
            late.close()
        for follower in followers:
            follower.wait(JOBS)
    everything = {job.id for job in made}
    for follower in followers:
        assert set(follower.seen) == everything
        assert len(follower.seen) < 2 * JOBS, "it went on where it was, not from the beginning"
    ledger.close()


def race(ledger: LedgerUnderTest, shares: list[list[tuple[str, int]]], killed: list[Follower]) -> None:
    """Finish them all at once; meanwhile these followers are killed, and started again."""
    threads = [threading.Thread(target=finish_some, args=[ledger, share, n]) for n, share in enumerate(shares)]
    for thread in threads:
        thread.start()
    for follower in killed:
        follower.wait(200)
        follower.kill()
        follower.begin()
    for thread in threads:
        thread.join(WAIT_S)


def ledger_value(ledger: LedgerUnderTest, statement: str) -> int:
    with ledger.database.read() as connection:
        return int(connection.exec_driver_sql(statement).scalar_one())

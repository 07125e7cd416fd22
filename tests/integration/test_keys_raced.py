"""Keys under fire: many producers at once, a worker in between, and whatever order of events hypothesis thinks of."""

import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from sqlalchemy import func, select

from ledger.records import Finish, Keep, Key, Mode, NewJob
from ledger.states import LIVE, Outcome, State
from ledger.tables import jobs, tickets, uniques
from tests.ledger_under_test import LedgerUnderTest, new_job
from tests.machines import check

ROOT = Path(__file__).parents[2]
WAIT_S = 60
PROCESSES, THREADS = 4, 8

#: Enqueues once for each digest it is told, in as many threads at once; prints the ids of what it recorded.
_PRODUCER = f"""
import sys, threading
from ledger import open_ledger
from ledger.records import Key, Mode
from tests.machines import check
from tests.ledger_under_test import new_job

url, mode = sys.argv[1:]
ledger = open_ledger(url, road="embedded")
sessions = [ledger.session("racer") for _ in range({THREADS})]
for session in sessions:
    session.enqueue([new_job(queue="warm-up")])
print("ready", flush=True)
for line in sys.stdin:
    key = Key(line.strip(), Mode(mode), within_ms=3_600_000 if mode == "throttle" else None)
    new, gate = [], threading.Barrier({THREADS})
    def send(session):
        job = new_job(key=key, delay_ms=3_600_000)
        gate.wait()
        [answer] = session.enqueue([job])
        if answer.id == job.id and not answer.duplicate:
            new.append(job.id)
    threads = [threading.Thread(target=send, args=[session]) for session in sessions]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    print(",".join(new), flush=True)
"""


@pytest.fixture
def ledger(database_url: str) -> Iterator[LedgerUnderTest]:
    under_test = LedgerUnderTest(database_url, "embedded")
    yield under_test
    under_test.close()


@pytest.mark.parametrize("mode", Mode)
def test_of_32_producers_at_once_one_records_a_job(ledger: LedgerUnderTest, mode: Mode) -> None:
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", _PRODUCER, ledger.url, mode],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for _ in range(PROCESSES)
    ]  # fmt: skip
    try:
        assert [_line(racer) for racer in racers] == ["ready"] * PROCESSES
        for n in range(6):  # the first time the key is new, then it is an old one that is free
            with ledger.database.write() as connection:
                connection.execute(jobs.update().values(state=State.COMPLETED))
                connection.execute(uniques.update().values(until=ledger.database.time(connection)))
            for racer in racers:
                assert racer.stdin
                racer.stdin.write("abcd\n")
                racer.stdin.flush()
            new = [id for racer in racers for id in _line(racer).split(",") if id]
            assert len(new) == 1, f"round {n}"
    finally:
        for racer in racers:
            racer.communicate(timeout=WAIT_S)
    with ledger.database.read() as connection:
        assert connection.scalar(select(func.count()).select_from(jobs).where(jobs.c.queue == "q")) == 6


def _line(racer: "subprocess.Popen[str]") -> str:
    assert racer.stdout
    return racer.stdout.readline().strip()


def test_while_a_worker_takes_jobs_the_last_of_many_replacements_is_run_and_none_twice(ledger: LedgerUnderTest) -> None:
    """Each send replaces what has not started; so whatever the worker is doing, the newest is never lost."""
    producers, each = 4, 60
    ran: list[bytes] = []
    over = threading.Event()
    session = ledger.new_session()

    def work() -> None:
        while True:
            last = over.is_set()
            claims = session.take(ledger.worker, {"q": 3})
            ran.extend(claim.body for claim in claims)
            # Following up with a key of its own, so that a finish locks keys as well as jobs.
            follow = [new_job(key=Key("ffff", Mode.REPLACE), queue="never")]
            session.finish(ledger.worker, [Finish(x.id, x.epoch, Outcome.COMPLETED, follow_ups=follow) for x in claims])
            if last and not claims:
                return

    def produce(name: int) -> None:
        own = ledger.ledger.session("producer")
        for n in range(each):
            common = new_job(key=Key("0000", Mode.REPLACE), body=b"common")
            own.enqueue([common, new_job(key=Key(f"{name:04x}", Mode.REPLACE), body=b"%d %d" % (name, n))])
        own.close()

    worker = threading.Thread(target=work)
    threads = [threading.Thread(target=produce, args=[name]) for name in range(1, producers + 1)]
    for thread in (worker, *threads):
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    over.set()
    worker.join(WAIT_S)
    assert not worker.is_alive()
    own = [body for body in ran if body != b"common"]
    assert max(Counter(own).values()) == 1
    for name in range(1, producers + 1):
        order = [int(body.split()[1]) for body in own if body.startswith(b"%d " % name)]
        assert order == sorted(order)
        assert order[-1] == each - 1


@dataclass
class Modelled:
    """A job as the model has it."""

    id: str
    body: bytes
    state: State
    epoch: int = 0


def machine(ledger: LedgerUnderTest) -> type[RuleBasedStateMachine]:
    """What may happen to jobs with keys, beside a model of a dozen lines that says what must come of it."""
    digests = st.sampled_from(["00", "01", "02"])
    held = st.sampled_from([LIVE, frozenset({State.DELAYED, State.WAITING}), frozenset({State.ACTIVE})])
    keys = st.one_of(
        st.builds(
            lambda x, s, timed: Key(x, Mode.REJECT, s, 3_600_000 if timed else None), digests, held, st.booleans()
        ),
        st.builds(lambda x: Key(x, Mode.REPLACE), digests),
        st.builds(lambda x: Key(x, Mode.THROTTLE, within_ms=3_600_000), digests),
    )
    wanted = st.builds(lambda key, delayed: (key, 3_600_000 if delayed else 0), st.none() | keys, st.booleans())

    class Keys(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            ledger._empty()
            self.worker = ledger.join()
            self.holders: dict[str, Modelled] = {}
            self.closed: set[str] = set()
            self.jobs: dict[str, Modelled] = {}
            self.number = 0

        def expected(self, job: NewJob) -> tuple[str, bool]:
            """The model: (the id answered, whether it is a duplicate)."""
            state = State.DELAYED if job.delay_ms else State.WAITING
            key = job.key
            if key is not None:
                holder = self.holders.get(key.digest)
                is_closed = key.digest in self.closed
                refuses = {
                    Mode.REJECT: is_closed or (holder is not None and holder.state in key.states),
                    Mode.THROTTLE: is_closed,
                    Mode.REPLACE: False,
                }
                if refuses[key.mode]:
                    assert holder is not None
                    return holder.id, True
                (self.closed.add if key.within_ms else self.closed.discard)(key.digest)
                if key.mode is Mode.REPLACE and holder is not None and holder.state in (State.DELAYED, State.WAITING):
                    holder.state, holder.body = state, job.body
                    return holder.id, False
            self.jobs[job.id] = Modelled(job.id, job.body, state)
            if key is not None:
                self.holders[key.digest] = self.jobs[job.id]
            return job.id, False

        def new(self, key: Key | None, delay_ms: int) -> NewJob:
            self.number += 1
            return new_job(key=key, delay_ms=delay_ms, body=b"%d" % self.number)

        @rule(of=wanted)
        def enqueue(self, of: tuple[Key | None, int]) -> None:
            job = self.new(*of)
            [answer] = ledger.session.enqueue([job])
            assert (answer.id, answer.duplicate) == self.expected(job)
            [answer] = ledger.session.enqueue([job])  # its answer was lost
            assert answer.duplicate or answer.id != job.id

        @rule(many=st.lists(wanted, min_size=2, max_size=5))
        def enqueue_many(self, many: list[tuple[Key | None, int]]) -> None:
            batch = [self.new(*of) for of in many]
            before = dict(self.jobs)
            expected = [self.expected(job) for job in batch]
            answers = ledger.session.enqueue(batch)
            # Who is replaced within its own batch is never recorded, and its id not used: the last one's is.
            for (id, _), answer in zip(expected, answers, strict=True):
                if id in self.jobs and id not in before and answer.id != id:
                    job = self.jobs.pop(id)
                    job.id = answer.id
                    self.jobs[job.id] = job
                assert answer.id == id or answer.id in self.jobs

        @rule()
        def start(self) -> None:
            ready = [job for job in self.jobs.values() if job.state is State.WAITING]
            claims = ledger.session.take(self.worker, {"q": 2})
            assert len(claims) == min(2, len(ready))
            for claim in claims:
                job = self.jobs[claim.id]
                assert (job.state, job.body) == (State.WAITING, claim.body)
                job.state, job.epoch = State.ACTIVE, claim.epoch

        @rule(outcome=st.sampled_from([Outcome.COMPLETED, Outcome.FAILED, Outcome.RETRYING]), key=st.none() | keys)
        def finish(self, outcome: Outcome, key: Key | None) -> None:
            job = next((job for job in self.jobs.values() if job.state is State.ACTIVE), None)
            if job is None:
                return
            follow_up = self.new(key, 0)
            finish = Finish(job.id, job.epoch, outcome, delay_ms=3_600_000, follow_ups=[follow_up])
            assert ledger.session.finish(self.worker, [finish])[0].accepted
            job.state = {Outcome.COMPLETED: State.COMPLETED, Outcome.FAILED: State.FAILED}.get(outcome, State.DELAYED)
            self.expected(follow_up)

        @rule()
        def become_due(self) -> None:
            with ledger.database.write() as connection:
                past = ledger.database.time(connection) - timedelta(seconds=1)
                connection.execute(tickets.update().where(~tickets.c.ready).values(due_at=past))
            ledger.session.promote(100, resend_after_s=30)
            for job in self.jobs.values():
                job.state = State.WAITING if job.state is State.DELAYED else job.state

        @rule()
        def pass_time(self) -> None:
            with ledger.database.write() as connection:
                past = ledger.database.time(connection) - timedelta(seconds=1)
                connection.execute(uniques.update().where(uniques.c.until.is_not(None)).values(until=past))
            self.closed.clear()

        @rule()
        def retain(self) -> None:
            ledger.session.retain({}, Keep(0, 0, 0, 0), history_s=3600)
            self.jobs = {id: job for id, job in self.jobs.items() if job.state in LIVE}
            live = {digest for digest, job in self.holders.items() if job.state in LIVE}
            assert {row["key"] for row in ledger.rows(uniques)} == live | self.closed

        @invariant()
        def the_tables_say_the_same(self) -> None:
            rows = {row["id"]: State(row["state"]) for row in ledger.rows(jobs)}
            assert rows == {id: job.state for id, job in self.jobs.items()}

    return Keys


def test_whatever_happens_in_whatever_order_is_what_the_model_says(ledger: LedgerUnderTest) -> None:
    check(machine(ledger), steps=20)

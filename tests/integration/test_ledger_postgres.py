"""What only PostgreSQL can get wrong: many connections at once, broken ones, and locks."""

import gc
import os
import random
import secrets
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine, create_engine

import failpoints
from errors import LedgerError, LedgerUnavailable, SchemaMismatch
from ledger import open_ledger
from ledger.engine import Database
from ledger.records import Claim, Finish, Ticket, Verdict
from ledger.states import Outcome, State
from ledger.tables import attempts, claims, jobs
from tests.ledger_under_test import LedgerUnderTest, new_job
from tests.servers import Postgres


@pytest.fixture
def ledger(postgres_url: str) -> Iterator[LedgerUnderTest]:
    ledger = LedgerUnderTest(postgres_url, "rabbitmq")
    yield ledger
    ledger.close()


@pytest.fixture
def embedded(postgres_url: str) -> Iterator[LedgerUnderTest]:
    ledger = LedgerUnderTest(postgres_url, "embedded")
    yield ledger
    ledger.close()


# -- the connection


def test_a_broken_connection_is_said_so_and_the_next_call_has_a_new_one(
    ledger: LedgerUnderTest, postgres: Postgres
) -> None:
    job = ledger.enqueue()
    assert postgres.terminate_connections(ledger.url) >= 1
    with pytest.raises(LedgerUnavailable, match=r"127\.0\.0\.1"):
        ledger.session.enqueue([new_job()])
    ledger.database.close()
    assert ledger.claim(job)[0].verdict is Verdict.RUN


def test_threads_that_come_first_at_once_share_their_connections(
    ledger: LedgerUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    database, both_make_one = Database(ledger.url), threading.Barrier(2, timeout=30)

    def made(*args: Any, **options: Any) -> Engine:
        both_make_one.wait()
        return create_engine(*args, **options)

    def used(_: int) -> int:
        with database.read() as connection:
            return id(connection.engine.pool)

    monkeypatch.setattr("ledger.engine.create_engine", made)
    with ThreadPoolExecutor(2) as pool:
        assert len(set(pool.map(used, range(2)))) == 1
    database.close()


def test_a_server_that_is_away_is_said_so_until_it_is_back(ledger: LedgerUnderTest, postgres: Postgres) -> None:
    job = ledger.enqueue()
    ledger.database.close()
    postgres.stop()
    for _ in range(2):
        with pytest.raises(LedgerUnavailable):
            ledger.session.claim(ledger.worker, [Ticket(job.id, 1, "q")])
    postgres.start()
    assert ledger.claim(job)[0].verdict is Verdict.RUN


def test_an_address_is_shown_without_its_password() -> None:
    ledger = open_ledger("postgresql://someone:secret@127.0.0.1:1/nowhere?sslmode=disable", road="rabbitmq")
    assert ledger.url == "postgresql://someone:***@127.0.0.1:1/nowhere?sslmode=disable"
    with pytest.raises(LedgerUnavailable) as caught:
        ledger.session("test").next_due_s()
    assert "someone:***@127.0.0.1:1/nowhere" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_database_that_was_never_migrated_is_refused_with_the_remedy(postgres: Postgres) -> None:
    session = open_ledger(postgres.create_database(), road="rabbitmq").session("test")
    with pytest.raises(SchemaMismatch, match="hareline migrate"):
        session.enqueue([new_job()])
    session.close()


def test_what_is_too_large_for_the_database_is_refused_and_not_called_an_outage(ledger: LedgerUnderTest) -> None:
    # Whoever sees an outage tries again, for ever, and everyone behind it waits.
    with pytest.raises(LedgerError, match="index row") as caught:
        ledger.enqueue(message_id=secrets.token_hex(6_000))
    assert not isinstance(caught.value, LedgerUnavailable)
    assert ledger.claim(ledger.enqueue())[0].verdict is Verdict.RUN


def test_a_user_who_lost_a_permission_is_an_outage_until_it_is_granted(
    ledger: LedgerUnderTest, postgres: Postgres
) -> None:
    job = ledger.enqueue()
    with psycopg.connect(ledger.url, autocommit=True) as admin:
        admin.execute("DROP ROLE IF EXISTS clerk")
        admin.execute("CREATE ROLE clerk LOGIN")
        admin.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO clerk")
        clerk = open_ledger(ledger.url.replace("hareline@", "clerk@"), road="rabbitmq").session("test")
        with pytest.raises(LedgerUnavailable, match="permission denied"):
            clerk.claim(ledger.worker, [Ticket(job.id, 1, "q")])
        admin.execute("GRANT ALL ON ALL TABLES IN SCHEMA public TO clerk")
        assert clerk.claim(ledger.worker, [Ticket(job.id, 1, "q")])[0].verdict is Verdict.RUN
        clerk.close()
        admin.execute("DROP OWNED BY clerk")
        admin.execute("DROP ROLE clerk")


def test_a_session_is_named_in_the_servers_list(ledger: LedgerUnderTest) -> None:
    with psycopg.connect(ledger.url) as connection:
        names = connection.execute("SELECT application_name FROM pg_stat_activity WHERE datname = current_database()")
        assert ("hareline test",) in names.fetchall()


def test_a_child_has_a_connection_of_its_own_and_leaves_the_parents_alone(ledger: LedgerUnderTest) -> None:
    before, inside, after = new_job(), new_job(), new_job()
    ledger.session.enqueue([before])
    child = os.fork()
    if child == 0:
        status = 1
        try:
            ledger.session.enqueue([inside])
            ledger.session.close()
            gc.collect()
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    ledger.session.enqueue([after])  # on the connection the child inherited
    assert {row["id"] for row in ledger.rows(jobs)} == {before.id, inside.id, after.id}


# -- answers lost after the commit


def lose_the_answer_at(monkeypatch: pytest.MonkeyPatch, failpoint: str) -> None:
    """The connection breaks off once, just after the commit."""
    lost = threading.Event()

    def hit(name: str) -> None:
        if name == failpoint and not lost.is_set():
            lost.set()
            raise psycopg.OperationalError("the connection is lost")

    monkeypatch.setattr(failpoints, "hit", hit)


def test_a_claim_whose_answer_was_lost_is_answered_the_same_on_a_new_connection(
    ledger: LedgerUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [ledger.enqueue() for _ in range(4)]
    sent = [Ticket(job.id, 1, "q") for job in made]
    lose_the_answer_at(monkeypatch, "claim.committed")
    with pytest.raises(LedgerUnavailable):
        ledger.session.claim(ledger.worker, sent)
    assert len(ledger.rows(claims)) == 4
    answers = ledger.session.claim(ledger.worker, sent)
    assert [(answer.verdict, answer.epoch) for answer in answers] == [(Verdict.RUN, 1)] * 4
    assert len(ledger.rows(claims)) == 4


def test_a_finish_whose_answer_was_lost_is_recorded_once(
    ledger: LedgerUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    done, retried = ledger.active()[0], ledger.active()[0]
    follow_up = new_job()
    ends = [
        Finish(done.id, 1, Outcome.COMPLETED, follow_ups=[follow_up]),
        Finish(retried.id, 1, Outcome.RETRYING, delay_ms=60_000),
    ]
    lose_the_answer_at(monkeypatch, "finish.committed")
    with pytest.raises(LedgerUnavailable):
        ledger.session.finish(ledger.worker, ends)
    answers = ledger.session.finish(ledger.worker, ends)
    assert [(answer.accepted, answer.state) for answer in answers] == [(True, State.COMPLETED), (True, State.DELAYED)]
    assert (ledger.attempts(done), ledger.attempts(retried)) == ([(1, "completed")], [(1, "retrying")])
    assert len(ledger.rows(jobs)) == 3


def test_an_enqueue_whose_answer_was_lost_is_recorded_once(
    ledger: LedgerUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = new_job()
    lose_the_answer_at(monkeypatch, "enqueue.committed")
    with pytest.raises(LedgerUnavailable):
        ledger.session.enqueue([job])
    assert [answer.duplicate for answer in ledger.session.enqueue([job])] == [True]
    assert len(ledger.rows(jobs)) == 1


def test_what_broke_before_the_commit_left_nothing(ledger: LedgerUnderTest, monkeypatch: pytest.MonkeyPatch) -> None:
    job, epoch = ledger.active()
    end = Finish(job.id, epoch, Outcome.COMPLETED, follow_ups=[new_job()])
    lose_the_answer_at(monkeypatch, "finish.before_commit")
    with pytest.raises(LedgerUnavailable):
        ledger.session.finish(ledger.worker, [end])
    assert ledger.state(job) is State.ACTIVE
    assert len(ledger.rows(jobs)) == 1
    assert ledger.session.finish(ledger.worker, [end])[0].accepted


# -- a pause and what races it


def while_it_waits_for_a_pause(ledger: LedgerUnderTest, act: Callable[[], list[Claim]]) -> list[Claim]:
    """What ``act`` returns when a pause that was under way before it commits while it waits."""
    with psycopg.connect(ledger.url) as pausing, ThreadPoolExecutor(1) as pool:
        pausing.execute("SELECT pg_advisory_xact_lock(hashtextextended('hareline.queue.q', 0))")
        pausing.execute("INSERT INTO queues (name, paused) VALUES ('q', true)")
        waiting = pool.submit(act)
        with psycopg.connect(ledger.url, autocommit=True) as watching:
            while not watching.execute("SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted").fetchall():
                assert not waiting.done()
                time.sleep(0.005)
        pausing.commit()
        return waiting.result(timeout=10)


def test_a_claim_that_waited_for_a_pause_starts_nothing(ledger: LedgerUnderTest) -> None:
    job = ledger.enqueue()
    sent = [Ticket(job.id, 1, "q")]
    [answer] = while_it_waits_for_a_pause(ledger, lambda: ledger.session.claim(ledger.worker, sent))
    assert (answer.verdict, answer.why) == (Verdict.PARK, "paused")
    assert ledger.state(job) is State.WAITING


def test_taking_that_waited_for_a_pause_takes_nothing(embedded: LedgerUnderTest) -> None:
    job = embedded.enqueue()
    taken = while_it_waits_for_a_pause(embedded, lambda: embedded.session.take(embedded.worker, {"q": 1}))
    assert taken == []
    assert embedded.state(job) is State.WAITING


def test_a_checkpoint_that_waited_for_a_rescue_is_refused(ledger: LedgerUnderTest) -> None:
    job, epoch = ledger.active()
    with psycopg.connect(ledger.url) as rescuer, ThreadPoolExecutor(1) as pool:
        rescuer.execute("UPDATE jobs SET epoch = epoch + 1 WHERE id = %s", (job.id,))
        waiting = pool.submit(ledger.session.checkpoint, job.id, epoch, b"1")
        with psycopg.connect(ledger.url, autocommit=True) as watcher:
            while not watcher.execute("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'").fetchone():
                assert not waiting.done()
                time.sleep(0.01)
        rescuer.commit()
        assert waiting.result(timeout=10) is False
    assert ledger.session.kept(job.id) is None


# -- everyone at once


class Storm:
    """Threads that claim, finish, beat, promote, mark, release and rescue the same jobs, each on its own connection."""

    def __init__(self, ledger: LedgerUnderTest, jobs_: int) -> None:
        self.ledger = ledger
        self.jobs = [new_job() for _ in range(jobs_)]
        ledger.session.enqueue(self.jobs)
        self.known = {job.id: 1 for job in self.jobs}  # the newest ticket anyone saw
        self.ran: dict[tuple[str, int], set[int]] = defaultdict(set)  # (job, epoch) -> workers
        self.accepted: Counter[str] = Counter()
        self.over = threading.Event()

    def run(self, seconds: float) -> None:
        duties = [self.work, self.work, self.work, self.work, self.promote, self.promote, self.rescue, self.mark]
        with ThreadPoolExecutor(len(duties)) as pool:
            threads = [pool.submit(duty, random.Random(seed)) for seed, duty in enumerate(duties)]
            self.over.wait(seconds)
            self.over.set()
            for thread in threads:
                thread.result()

    def work(self, dice: random.Random) -> None:
        session = self.ledger.ledger.session("storm")
        worker = 0
        ids = [job.id for job in self.jobs]
        while not self.over.is_set():
            if not worker or not session.beat(worker, [], lease_s=0.02).alive:
                worker = session.join(host="h", pid=1, queues=["q"], threads=1, version="1")
            sent = [Ticket(id, self.known[id], "q") for id in dice.sample(ids, 40)]
            runs = [x for x in session.claim(worker, sent, suspects=40) if x.verdict is Verdict.RUN]
            for x in runs:
                self.ran[x.id, x.epoch].add(worker)
            dice.shuffle(runs)
            outcomes = [Outcome.RETRYING, Outcome.INTERRUPTED, Outcome.SNOOZED]
            ends = [Finish(x.id, x.epoch, dice.choice(outcomes), result=b"1") for x in runs[2:]]
            self.accepted.update(x.id for x in session.finish(worker, ends) if x.accepted)
            session.release(worker, [(x.id, x.epoch) for x in runs[:1]])  # and runs[1] is forgotten
            session.progress([(x.id, 1.0, None, "") for x in runs])
        session.close()

    def promote(self, dice: random.Random) -> None:
        session = self.ledger.ledger.session("storm")
        while not self.over.is_set():
            for due in session.promote(dice.randint(1, 200), resend_after_s=0.01):
                self.known[due.id] = due.ticket
        session.close()

    def rescue(self, dice: random.Random) -> None:
        session = self.ledger.ledger.session("storm")
        while not self.over.is_set():
            session.rescue(dice.choice([0.01, 0.05]))
            session.resend(older_than_s=0.05)
        session.close()

    def mark(self, dice: random.Random) -> None:
        session = self.ledger.ledger.session("storm")
        while not self.over.is_set():
            session.mark([(id, self.known[id]) for id in dice.sample(list(self.known), 50)])
        session.close()


def test_eight_threads_on_the_same_jobs_neither_deadlock_nor_lose_any(ledger: LedgerUnderTest) -> None:
    storm = Storm(ledger, 400)
    storm.run(3)
    rows = ledger.rows(jobs)
    assert len(rows) == 400
    assert sum(storm.accepted.values()) > 400
    assert all(len(workers) == 1 for workers in storm.ran.values()), "an epoch belongs to one worker"
    numbers: dict[str, list[int]] = {job.id: [] for job in storm.jobs}
    ended: Counter[str] = Counter()
    for row in ledger.rows(attempts):
        if row["number"] is not None:
            numbers[row["job_id"]].append(row["number"])
        if row["outcome"] != "crashed":
            ended[row["job_id"]] += 1
    assert ended == storm.accepted, "each accepted finish is one attempt"
    for row in rows:
        assert numbers[row["id"]] == list(range(1, row["attempts"] + 1))
    owned = {(row["job_id"], row["epoch"]) for row in ledger.rows(claims)}
    assert owned == {(row["id"], row["epoch"]) for row in rows if row["state"] == "active"}
    assert {row["state"] for row in rows} <= {"waiting", "delayed", "active", "failed"}


def test_two_workers_never_take_the_same_job(embedded: LedgerUnderTest) -> None:
    made = [new_job(priority=1 + n % 5) for n in range(300)]
    embedded.session.enqueue(made)

    def work(_: int) -> list[str]:
        session = embedded.ledger.session("taker")
        worker = session.join(host="h", pid=1, queues=["q"], threads=1, version="1")
        taken: list[str] = []
        while got := session.take(worker, {"q": 7}):
            taken += [claim.id for claim in got]
        session.close()
        return taken

    with ThreadPoolExecutor(4) as pool:
        taken = [id for ids in pool.map(work, range(4)) for id in ids]
    assert sorted(taken) == sorted(job.id for job in made)


def test_a_lease_raced_for_has_one_holder(ledger: LedgerUnderTest) -> None:
    start = threading.Barrier(6)

    def race(name: str) -> int | None:
        session = ledger.ledger.session(name)
        session.next_due_s()
        start.wait()
        term = session.lease("relay", name, 60)
        session.close()
        return term

    with ThreadPoolExecutor(6) as pool:
        terms = list(pool.map(race, "abcdef"))
    assert sorted(terms, key=str) == [1, None, None, None, None, None]


def test_a_tick_raced_for_is_recorded_once(ledger: LedgerUnderTest) -> None:
    start = threading.Barrier(6)
    at = ledger.now()

    def race(_: int) -> bool:
        session = ledger.ledger.session("tick")
        session.next_due_s()
        start.wait()
        [answer] = session.enqueue([new_job(tick=("every", at))])
        session.close()
        return answer.duplicate

    with ThreadPoolExecutor(6) as pool:
        assert sorted(pool.map(race, range(6))) == [False, True, True, True, True, True]
    assert len(ledger.rows(jobs)) == 1

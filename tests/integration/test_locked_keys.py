"""A send in an open transaction has a key locked for as long as it likes: whom that keeps waiting (PostgreSQL)."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from queue import SimpleQueue

import psycopg
import pytest

from ledger.recorder import Recorder
from ledger.records import Finish, Keep, Key, Mode
from ledger.states import Outcome
from ledger.tables import jobs
from tests.ledger_under_test import LedgerUnderTest, new_job

NONE_KEPT = Keep(0, 0, 0, 0)
WAIT_S = 30


@pytest.fixture
def ledger(postgres_url: str) -> Iterator[LedgerUnderTest]:
    under_test = LedgerUnderTest(postgres_url, "embedded")
    yield under_test
    under_test.close()


@contextmanager
def locked(ledger: LedgerUnderTest, digest: str) -> Iterator[None]:
    with psycopg.connect(ledger.url) as connection:
        row = "INSERT INTO uniques (key, job_id, asked_id, message_id) VALUES (%s, %s, %s, '')"
        job = new_job()
        connection.execute(row + " ON CONFLICT (key) DO UPDATE SET message_id = ''", (digest, job.id, job.id))
        yield


def test_retention_leaves_a_job_whose_key_somebody_has_locked_and_moves_the_others(ledger: LedgerUnderTest) -> None:
    keyed, plain = new_job(key=Key("aa", Mode.REJECT)), new_job()
    ledger.session.enqueue([keyed, plain])
    ended = [Finish(x.id, x.epoch, Outcome.COMPLETED) for x in ledger.session.take(ledger.worker, {"q": 2})]
    ledger.session.finish(ledger.worker, ended)
    began_at = time.monotonic()
    with locked(ledger, "aa"):
        assert ledger.session.retain({}, NONE_KEPT, history_s=3600) == 2
        assert [row["id"] for row in ledger.rows(jobs)] == [keyed.id]
    assert time.monotonic() - began_at < 5
    assert ledger.session.retain({}, NONE_KEPT, history_s=3600) == 1
    assert ledger.rows(jobs) == []


def test_a_finish_waits_for_the_key_of_what_follows_it_and_the_others_do_not_wait_for_that(
    ledger: LedgerUnderTest,
) -> None:
    ledger.session.enqueue([new_job() for _ in range(3)])
    first, *others = ledger.session.take(ledger.worker, {"q": 3})
    ended: SimpleQueue[str] = SimpleQueue()
    recorder = Recorder(ledger.ledger)
    recorder.worker = ledger.worker
    with locked(ledger, "bb"):
        follow = [new_job(key=Key("bb", Mode.REJECT), queue="never")]
        recorder.finish(
            Finish(first.id, first.epoch, Outcome.COMPLETED, follow_ups=follow), lambda answer: ended.put(answer.id)
        )
        for claim in others:
            recorder.finish(Finish(claim.id, claim.epoch, Outcome.COMPLETED), lambda answer: ended.put(answer.id))
        assert {ended.get(timeout=WAIT_S) for _ in others} == {claim.id for claim in others}
        assert ended.empty()
    assert ended.get(timeout=WAIT_S) == first.id
    assert recorder.stop()

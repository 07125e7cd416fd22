"""Orders of events that a busy day brings once: the recorder against a real ledger, with the fault put in between."""

import threading
from collections.abc import Callable, Sequence
from queue import Queue
from typing import Any

import pytest

from errors import LedgerError, LedgerUnavailable
from ledger.ledger import Session
from ledger.outbox import AsyncOutbox, Outbox
from ledger.recorder import Recorder
from ledger.records import Claim, Finish, Finished, NewJob, Ticket, Verdict
from ledger.states import Outcome, State
from tests.ledger_under_test import LedgerUnderTest

WAIT_S = 20


class Interposed:
    """A ledger whose sessions, the real ones, do something more around their claims."""

    def __init__(self, real: LedgerUnderTest, around: Callable[[Callable[[], list[Claim]]], list[Claim]]) -> None:
        self._real = real
        self._around = around

    @property
    def url(self) -> str:
        return self._real.ledger.url

    def check(self) -> None:
        self._real.ledger.check()

    def outbox(self, connection: object) -> Outbox | AsyncOutbox:
        return self._real.ledger.outbox(connection)

    def session(self, name: str) -> Session:
        session = self._real.ledger.session(name)
        around, claim = self._around, session.claim

        def claim_interposed(worker: int, tickets: Sequence[Ticket], *, suspects: int = 1) -> list[Claim]:
            return around(lambda: claim(worker, tickets, suspects=suspects))

        session.claim = claim_interposed  # type: ignore[method-assign]
        return session


@pytest.fixture
def ledger(database_url: str) -> Any:
    under_test = LedgerUnderTest(database_url, "rabbitmq")
    yield under_test
    under_test.close()


def recorder_of(ledger: LedgerUnderTest, around: Callable[[Callable[[], list[Claim]]], list[Claim]]) -> Recorder:
    recorder = Recorder(Interposed(ledger, around))
    recorder.worker = ledger.worker
    return recorder


def test_a_claim_whose_answer_is_lost_runs_once(ledger: LedgerUnderTest) -> None:
    calls: list[list[Claim]] = []

    def lose_the_first(claim: Callable[[], list[Claim]]) -> list[Claim]:
        calls.append(claim())
        if len(calls) == 1:
            raise LedgerUnavailable("the connection broke after the commit")
        return calls[-1]

    recorder = recorder_of(ledger, lose_the_first)
    answers: Queue[Claim] = Queue()
    job = ledger.enqueue()
    recorder.claim(Ticket(job.id, 1, job.queue), answers.put)
    claim = answers.get(timeout=WAIT_S)
    assert (claim.verdict, claim.epoch) == (Verdict.RUN, 1)
    assert recorder.stop()
    assert [answer.epoch for [answer] in calls] == [1, 1]
    assert answers.empty()
    assert recorder.held == {job.id: 1}


def test_a_duplicate_that_is_judged_while_its_job_ends_does_not_run_it_again(ledger: LedgerUnderTest) -> None:
    """The duplicate finds the job in this worker's hands; before that answer is used, the job has ended."""
    job = ledger.enqueue()
    claims: Queue[Claim] = Queue()
    finishes: Queue[Finished] = Queue()
    duplicate = threading.Event()

    def end_meanwhile(claim: Callable[[], list[Claim]]) -> list[Claim]:
        answers = claim()
        if duplicate.is_set():
            recorder.finish(Finish(job.id, 1, Outcome.COMPLETED), finishes.put)
            assert finishes.get(timeout=WAIT_S).state is State.COMPLETED
        return answers

    recorder = recorder_of(ledger, end_meanwhile)
    recorder.claim(Ticket(job.id, 1, job.queue), claims.put)
    assert claims.get(timeout=WAIT_S).verdict is Verdict.RUN
    duplicate.set()
    recorder.claim(Ticket(job.id, 1, job.queue), claims.put)
    assert claims.get(timeout=WAIT_S).verdict is Verdict.DROP
    assert recorder.stop()
    assert recorder.held == {}


def test_a_finish_the_database_refuses_stops_no_neighbour_and_is_recorded(ledger: LedgerUnderTest) -> None:
    recorder = recorder_of(ledger, lambda claim: claim())
    jobs: list[NewJob] = []
    for _ in range(20):
        job, _epoch = ledger.active()
        jobs.append(job)
    answers: Queue[Finished] = Queue()
    for n, job in enumerate(jobs):
        finish = Finish(job.id, 1, Outcome.COMPLETED)
        if n == 7:
            finish = Finish(job.id, 1, Outcome.RETRYING, delay_ms=2**70)  # later than any database can write down
        recorder.finish(finish, answers.put)
    assert recorder.stop()
    ended = {answer.id: answer.state for answer in (answers.get(timeout=WAIT_S) for _ in jobs)}
    assert [ended[job.id] for job in jobs] == [State.FAILED if n == 7 else State.COMPLETED for n in range(20)]
    assert ledger.row(jobs[7])["reason"] == "refused"


def test_a_job_whose_end_cannot_be_written_at_all_is_not_held_but_given_back(ledger: LedgerUnderTest) -> None:
    def refuse(worker: int, finishes: Sequence[Finish]) -> list[Finished]:
        raise LedgerError("refused, whatever it is")

    recorder = recorder_of(ledger, lambda claim: claim())
    job = ledger.enqueue()
    claims: Queue[Claim] = Queue()
    recorder.claim(Ticket(job.id, 1, job.queue), claims.put)
    assert claims.get(timeout=WAIT_S).verdict is Verdict.RUN
    session = ledger.new_session()
    session.finish = refuse  # type: ignore[method-assign]
    recorder._ledger.session = lambda name: session  # type: ignore[method-assign]
    recorder.finish(Finish(job.id, 1, Outcome.COMPLETED), lambda answer: None)
    assert recorder.flush(WAIT_S)
    assert recorder.held == {}
    assert ledger.session.beat(ledger.worker, list(recorder.held.items()), lease_s=0).released == 1
    assert ledger.row(job)["state"] == State.WAITING
    assert recorder.stop()

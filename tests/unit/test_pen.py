"""Group commit of producers: whoever waits is recorded, whatever happens to whoever has the pen."""

import ctypes
import threading
from collections.abc import Sequence
from typing import cast

import pytest

from errors import LedgerUnavailable
from ledger.ledger import Session
from ledger.pen import Pen, _Slip
from ledger.records import Enqueued, NewJob
from ledger.states import State


class Desk:
    """A session that records, slowly enough for others to queue up behind the first."""

    def __init__(self) -> None:
        self.commits: list[list[str]] = []
        self.entered, self.go_on = threading.Event(), threading.Event()
        self.away = 0
        self.sent: list[str] = []
        self.closed_after: list[list[str]] | None = None

    def enqueue(self, jobs: Sequence[NewJob]) -> list[Enqueued]:
        if self.away:
            self.away -= 1
            raise LedgerUnavailable("away")
        self.entered.set()
        assert self.go_on.wait(5)
        if (len(jobs) > 1 and any(job.actor == "bad" for job in jobs)) or jobs[0].actor == "bad":
            raise ValueError("bad job")
        self.commits.append([job.id for job in jobs])
        return [Enqueued(job.id, State.WAITING) for job in jobs]

    def recorded(self, jobs: Sequence[NewJob], answers: Sequence[Enqueued]) -> None:
        self.sent += [job.id for job in jobs]

    def close(self) -> None:
        self.closed_after = list(self.commits)


def a_job(id: str, actor: str = "good") -> NewJob:
    return NewJob(id, id, "q", actor, 3, b"{}")


def test_sends_that_meet_share_a_commit_and_a_bad_one_fails_alone() -> None:
    desk = Desk()
    pen = Pen(lambda name: cast(Session, desk), desk.recorded)
    outcome: dict[str, object] = {}
    lock = threading.Lock()

    def send(job: NewJob) -> None:
        try:
            answer: object = pen.enqueue([job])
        except Exception as error:
            answer = error
        with lock:
            outcome[job.id] = answer

    threads = [threading.Thread(target=send, args=(a_job("0"),))]
    threads[0].start()
    assert desk.entered.wait(5)
    jobs = [a_job(str(n), "bad" if n == 5 else "good") for n in range(1, 9)]
    for job in jobs:
        thread = threading.Thread(target=send, args=(job,))
        thread.start()
        threads.append(thread)
    while len(pen._waiting) < len(jobs):  # they only have to reach the pen
        pass
    desk.go_on.set()
    for thread in threads:
        thread.join(5)
    assert isinstance(outcome.pop("5"), ValueError)
    assert all(isinstance(answer, list) and answer[0].id == id for id, answer in outcome.items())
    assert sorted(id for commit in desk.commits for id in commit) == sorted(outcome) == sorted(desk.sent)


def test_a_connection_lost_while_idle_is_no_error_but_a_database_that_is_away_is() -> None:
    desk = Desk()
    desk.go_on.set()
    pen = Pen(lambda name: cast(Session, desk), desk.recorded)
    desk.away = 1
    assert pen.enqueue([a_job("1")])[0].id == "1"
    desk.away = 2
    with pytest.raises(LedgerUnavailable):
        pen.enqueue([a_job("2")])


def test_a_send_behind_too_many_for_one_transaction_returns_recorded() -> None:
    desk = Desk()
    desk.go_on.set()
    pen = Pen(lambda name: cast(Session, desk), desk.recorded)
    pen._waiting.append(_Slip([a_job(f"before {number}") for number in range(400)]))  # whose thread is not here yet
    answers = pen.enqueue([a_job(f"mine {number}") for number in range(200)])
    assert [answer.id for answer in answers] == [f"mine {number}" for number in range(200)]
    assert [len(commit) for commit in desk.commits] == [400, 200]


def test_what_is_recorded_is_recorded_even_when_it_cannot_be_sent_on(caplog: pytest.LogCaptureFixture) -> None:
    def broken(jobs: Sequence[NewJob], answers: Sequence[Enqueued]) -> None:
        raise OSError("no more files")

    desk = Desk()
    desk.go_on.set()
    assert Pen(lambda name: cast(Session, desk), broken).enqueue([a_job("1")])[0].id == "1"
    assert "the relay does that" in caplog.text


def test_the_connection_is_not_closed_under_a_commit() -> None:
    desk = Desk()
    pen = Pen(lambda name: cast(Session, desk), desk.recorded)
    sender = threading.Thread(target=pen.enqueue, args=([a_job("1")],))
    sender.start()
    assert desk.entered.wait(5)
    closer = threading.Thread(target=pen.close)
    closer.start()
    closer.join(0.2)
    assert closer.is_alive()
    assert desk.closed_after is None
    desk.go_on.set()
    closer.join(5)
    sender.join(5)
    assert desk.closed_after == [["1"]]


class Interrupt(BaseException):
    """As Dramatiq's time limits raise them, from outside."""


@pytest.mark.parametrize("victim", ["first", "second"])
def test_an_interrupted_sender_leaves_the_pen_to_the_others(victim: str) -> None:
    """The first one writes, the second waits for it."""
    desk = Desk()
    pen = Pen(lambda name: cast(Session, desk), desk.recorded)
    ended: dict[str, str] = {}

    def send(name: str) -> None:
        try:
            ended[name] = pen.enqueue([a_job(name)])[0].id
        except Interrupt:
            ended[name] = "interrupted"

    threads = {name: threading.Thread(target=send, args=(name,)) for name in ("first", "second", "third")}
    threads["first"].start()
    assert desk.entered.wait(5)
    threads["second"].start()
    while not pen._waiting:
        pass
    number = ctypes.c_ulong(cast(int, threads[victim].ident))
    assert ctypes.pythonapi.PyThreadState_SetAsyncExc(number, ctypes.py_object(Interrupt))
    threads["third"].start()
    desk.go_on.set()  # a thread that waits notices an interrupt when it runs again
    for thread in threads.values():
        thread.join(5)
    assert ended == {name: name for name in threads} | {victim: "interrupted"}
    assert pen.enqueue([a_job("later")])[0].id == "later"

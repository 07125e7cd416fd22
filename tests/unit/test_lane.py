"""Group commit: nothing dropped, nobody stopped by another's bad row."""

import threading
from collections.abc import Sequence
from typing import Any, cast

import pytest

from errors import LedgerUnavailable, SchemaMismatch
from ledger.lane import Lane, Pen, _Slip
from ledger.ledger import Session
from ledger.records import Enqueued, NewJob
from ledger.states import State


class Closable:
    def close(self) -> None:
        pass


def open_nothing(name: str) -> Session:
    return cast(Session, Closable())


def a_lane(write: Any, spoiled: Any = None, **options: Any) -> Lane[int]:
    def refuse(session: Session, row: int, error: Exception) -> None:
        raise AssertionError(f"{row} was spoiled: {error}")

    lane: Lane[int] = Lane("test", open_nothing, write, spoiled=spoiled or refuse, **options)
    lane.start()
    return lane


def test_what_queues_up_during_a_write_goes_into_the_next_one() -> None:
    batches: list[list[int]] = []
    first_is_in, go_on = threading.Event(), threading.Event()

    def write(session: Session, rows: list[int]) -> None:
        batches.append(rows)
        first_is_in.set()
        assert go_on.wait(5)

    lane = a_lane(write)
    lane.put(1)
    assert first_is_in.wait(5)
    for row in (2, 3, 4):
        lane.put(row)
    go_on.set()
    assert lane.flush(5)
    assert batches == [[1], [2, 3, 4]]
    assert lane.stop()


def test_one_bad_row_stops_no_other() -> None:
    written: list[int] = []
    bad: list[int] = []
    gathered, go_on = threading.Event(), threading.Event()

    def write(session: Session, rows: list[int]) -> None:
        if rows == [0]:
            gathered.set()
            assert go_on.wait(5)
            return
        if 13 in rows:
            raise ValueError("thirteen")
        written.extend(rows)

    lane = a_lane(write, lambda session, row, error: bad.append(row))
    lane.put(0)
    assert gathered.wait(5)
    for row in range(1, 101):
        lane.put(row)
    go_on.set()
    assert lane.flush(5)
    assert bad == [13]
    assert sorted(written) == [row for row in range(1, 101) if row != 13]
    assert lane.stop()


@pytest.mark.parametrize("why", [LedgerUnavailable, SchemaMismatch])
def test_while_the_ledger_is_away_rows_wait_and_a_full_lane_makes_its_callers_wait(why: type[Exception]) -> None:
    away = threading.Event()
    tried = threading.Event()
    written: list[int] = []

    def write(session: Session, rows: list[int]) -> None:
        tried.set()
        if not away.is_set():
            raise why("away")
        written.extend(rows)

    lane = a_lane(write, limit=3)
    lane.put(0)
    assert tried.wait(5)
    for row in (1, 2, 3):
        lane.put(row)
    through = threading.Event()

    def one_more() -> None:
        lane.put(4)
        through.set()

    threading.Thread(target=one_more, daemon=True).start()
    assert not through.wait(0.3)
    away.set()
    assert through.wait(10)
    assert lane.flush(10)
    assert written == [0, 1, 2, 3, 4]
    assert lane.stop()


class Desk:
    """A session that records, slowly enough for others to queue up behind the first."""

    def __init__(self) -> None:
        self.commits: list[list[str]] = []
        self.entered, self.go_on = threading.Event(), threading.Event()
        self.away = 0

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

    def close(self) -> None:
        pass


def a_job(id: str, actor: str = "good") -> NewJob:
    return NewJob(id, id, "q", actor, 3, b"{}")


def test_sends_that_meet_share_a_commit_and_a_bad_one_fails_alone() -> None:
    desk = Desk()
    pen = Pen(lambda name: cast(Session, desk))
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
    assert sorted(id for commit in desk.commits for id in commit) == sorted(outcome)


def test_a_connection_lost_while_idle_is_no_error_but_a_database_that_is_away_is() -> None:
    desk = Desk()
    desk.go_on.set()
    pen = Pen(lambda name: cast(Session, desk))
    desk.away = 1
    assert pen.enqueue([a_job("1")])[0].id == "1"
    desk.away = 2
    with pytest.raises(LedgerUnavailable):
        pen.enqueue([a_job("2")])


def test_a_send_behind_too_many_for_one_transaction_returns_recorded() -> None:
    desk = Desk()
    desk.go_on.set()
    pen = Pen(lambda name: cast(Session, desk))
    pen._waiting.append(_Slip([a_job(f"before {number}") for number in range(400)]))  # whose thread is not here yet
    answers = pen.enqueue([a_job(f"mine {number}") for number in range(200)])
    assert [answer.id for answer in answers] == [f"mine {number}" for number in range(200)]
    assert [len(commit) for commit in desk.commits] == [400, 200]

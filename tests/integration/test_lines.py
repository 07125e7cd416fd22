"""Lines in the ledger: jobs of one key one at a time, as recorded; on both databases, for both roads."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from control import Control, dead
from control import jobs as verbs
from errors import IllegalTransition
from ledger import open_ledger
from ledger.queries import Queries
from ledger.records import Finish, Keep, Line, NewJob, Verdict
from ledger.states import Outcome, State
from ledger.tables import lines
from tests.gated_ledger import (
    HOUR_MS,
    come_back,
    end,
    survey,
    tend,
)
from tests.ledger_under_test import LedgerUnderTest, new_job


@pytest.fixture
def ledger(on_any_road: LedgerUnderTest) -> LedgerUnderTest:
    return on_any_road


@pytest.fixture
def control(ledger: LedgerUnderTest) -> Iterator[Control]:
    found = Control(ledger.url, ledger.road)
    yield found
    found.close()


NONE_KEPT = Keep(completed=0, completed_s=0, failed=0, failed_s=0)


def in_line(key: str = "a", *, hold: bool = False, **fields: Any) -> NewJob:
    return new_job(line=Line(f"sequence:{key}", "sequence:accounts", hold), **fields)


def recorded(ledger: LedgerUnderTest, *wanted: NewJob) -> list[State]:
    return [answer.state for answer in ledger.session.enqueue(wanted)]


def claimed(ledger: LedgerUnderTest, job: NewJob) -> tuple[NewJob, int]:
    [claim] = ledger.claim(job)
    assert (claim.verdict, claim.sequenced) == (Verdict.RUN, True)
    return job, claim.epoch


def test_jobs_of_one_key_run_in_the_order_they_were_recorded(ledger: LedgerUnderTest) -> None:
    first, second, other, third = in_line(), in_line(priority=1), in_line("b"), in_line()
    assert recorded(ledger, first, second, other) == [State.WAITING, State.DELAYED, State.WAITING]
    assert recorded(ledger, third) == [State.DELAYED]
    assert [ledger.ticket(job) for job in (second, third)] == [None, None]
    running = claimed(ledger, first)
    assert end(ledger, *running) == [second.id]
    assert end(ledger, *come_back(ledger, second)) == [third.id]
    assert end(ledger, *come_back(ledger, third)) == []
    assert {row["job_id"] for row in ledger.rows(lines)} == {other.id}


def test_a_job_that_waits_for_its_retry_holds_its_successors_back(ledger: LedgerUnderTest) -> None:
    first, second = in_line(), in_line()
    recorded(ledger, first, second)
    assert end(ledger, *claimed(ledger, first), Outcome.RETRYING, delay_ms=HOUR_MS) == []
    assert survey(ledger) == []
    ledger.make_due(first)
    ledger.session.promote(10, resend_after_s=30)
    assert end(ledger, *come_back(ledger, first)) == [second.id]


def test_a_delay_of_the_first_holds_its_successors_back_and_their_own_begins_with_their_send(
    ledger: LedgerUnderTest,
) -> None:
    first, second = in_line(), in_line(delay_ms=HOUR_MS)
    assert recorded(ledger, first, second) == [State.WAITING, State.DELAYED]
    assert end(ledger, *claimed(ledger, first)) == [], "its turn has come, its time has not"
    ticket = ledger.ticket(second)
    assert ticket
    assert ticket["due_at"] == ledger.row(second)["run_at"]


def test_after_a_dead_letter_the_next_goes_on_or_is_held(ledger: LedgerUnderTest) -> None:
    first, second = in_line(), in_line()
    recorded(ledger, first, second)
    assert end(ledger, *claimed(ledger, first), Outcome.FAILED) == [second.id]
    held, waits = in_line("b", hold=True), in_line("b", hold=True)
    recorded(ledger, held, waits)
    assert end(ledger, *claimed(ledger, held), Outcome.FAILED) == []
    assert (survey(ledger), ledger.state(waits)) == ([], State.DELAYED)


def test_a_held_key_goes_on_when_retention_has_forgotten_its_dead_letter(ledger: LedgerUnderTest) -> None:
    held, waits = in_line(hold=True), in_line(hold=True)
    recorded(ledger, held, waits)
    end(ledger, *claimed(ledger, held), Outcome.FAILED)
    ledger.session.retain({}, NONE_KEPT, history_s=HOUR_MS)
    assert survey(ledger) == [], "it is in the history, and may be retried from there"
    ledger.session.retain({}, NONE_KEPT, history_s=0)
    assert survey(ledger) == [waits.id]


def test_the_death_of_a_worker_keeps_the_order_and_a_quarantine_ends_it(ledger: LedgerUnderTest) -> None:
    first, second = in_line(), in_line()
    recorded(ledger, first, second)
    for left in (3, 2, 1, 0):
        dead = ledger.join()
        [claim] = ledger.claim(first, worker=dead)
        assert claim.verdict is Verdict.RUN
        ledger.silence(dead)
        ledger.session.rescue(10)
        assert tend(ledger) == ([] if left else [second.id])


def test_a_job_that_expires_in_line_or_before_it_is_passed_over(ledger: LedgerUnderTest) -> None:
    first, second, third = in_line(expires_ms=1), in_line(expires_ms=1), in_line()
    recorded(ledger, first, second, third)
    ledger.finished()  # a millisecond at least
    assert sorted(ledger.session.expire(10)) == [first.id, second.id]
    assert tend(ledger) == [third.id]


def test_what_follows_a_finish_stands_in_line_behind_it(ledger: LedgerUnderTest) -> None:
    parent, child = in_line(), in_line()
    recorded(ledger, parent)
    finish = Finish(
        *((job := claimed(ledger, parent))[0].id, job[1]), Outcome.COMPLETED, gated=True, follow_ups=[child]
    )
    assert [due.id for due in ledger.session.finish(ledger.worker, [finish])[0].send] == [child.id]
    assert ledger.state(child) is State.WAITING


def test_the_same_enqueue_again_gets_no_second_place(ledger: LedgerUnderTest) -> None:
    first, second = in_line(), in_line()
    recorded(ledger, first, second)
    assert [answer.duplicate for answer in ledger.session.enqueue([second, first])] == [True, True]
    assert len(ledger.rows(lines)) == 2


def test_producers_that_send_at_once_agree_on_one_order(ledger: LedgerUnderTest) -> None:
    sessions = [open_ledger(ledger.url, road=ledger.road).session("producer") for _ in range(4)]
    sent: list[list[NewJob]] = [[in_line() for _ in range(10)] for _ in sessions]

    def send(n: int) -> None:
        for job in sent[n]:
            sessions[n].enqueue([job])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(send, range(4)))
    order = [row["job_id"] for row in ledger.rows(lines)]
    assert [sum(job.id == order[0] for job in some) for some in sent].count(1) == 1
    for some in sent:
        places = [order.index(job.id) for job in some]
        assert places == sorted(places), "what one producer sends is in its order"
    running = next(job for some in sent for job in some if job.id == order[0])
    ran = [running.id]
    next_up = end(ledger, *claimed(ledger, running))
    by_id = {job.id: job for some in sent for job in some}
    while next_up:
        ran += next_up
        next_up = end(ledger, *come_back(ledger, by_id[next_up[0]]))
    assert ran == order
    for session in sessions:
        session.close()


def test_whoever_is_cancelled_leaves_the_line(ledger: LedgerUnderTest, control: Control) -> None:
    first, second, third = in_line(), in_line(), in_line()
    recorded(ledger, first, second, third)
    verbs.cancel(control, second.id, by="ada")
    verbs.cancel(control, first.id, by="ada")
    assert tend(ledger) == [third.id]


def test_a_dead_letter_that_others_passed_joins_the_end_when_it_is_retried(
    ledger: LedgerUnderTest, control: Control
) -> None:
    first, second, third = in_line(), in_line(), in_line()
    recorded(ledger, first, second, third)
    end(ledger, *claimed(ledger, first), Outcome.FAILED)
    verbs.retry(control, first.id, by="ada")
    assert (ledger.state(first), ledger.ticket(first), tend(ledger)) == (State.DELAYED, None, [])
    assert end(ledger, *come_back(ledger, second)) == [third.id]
    assert end(ledger, *come_back(ledger, third)) == [first.id]
    assert end(ledger, *come_back(ledger, first)) == []
    last = in_line()
    assert recorded(ledger, last) == [State.WAITING]


def test_a_dead_letter_that_holds_its_key_goes_on_first_or_not_at_all(
    ledger: LedgerUnderTest, control: Control
) -> None:
    held, waits = in_line(hold=True), in_line(hold=True)
    recorded(ledger, held, waits)
    end(ledger, *claimed(ledger, held), Outcome.FAILED)
    ledger.session.retain({}, NONE_KEPT, history_s=HOUR_MS)
    dead.retry(control, held.id, by="ada")
    assert end(ledger, *claimed(ledger, held), Outcome.FAILED) == []
    dead.discard(control, held.id, by="ada")
    assert tend(ledger) == [waits.id]


def test_a_job_cannot_be_retried_out_of_its_turn(ledger: LedgerUnderTest, control: Control) -> None:
    first, second = in_line(), in_line()
    recorded(ledger, first, second)
    with pytest.raises(IllegalTransition, match=r"waits for its turn in sequence:a"):
        verbs.retry(control, second.id, by="ada")
    queries = Queries(ledger.url)
    shown = [queries.job(job.id) for job in (first, second)]
    assert [job is not None and queries.may_go_round(job) for job in shown] == [True, False]
    queries.close()


def test_a_key_shows_who_holds_it_and_who_waits(ledger: LedgerUnderTest) -> None:
    first, second, third = in_line(), in_line(), in_line()
    recorded(ledger, first, second, third)
    queries = Queries(ledger.url)
    [gate] = queries.gates(10)
    assert (gate.key, gate.waiting, gate.held_by) == ("sequence:a", 2, [first.id])
    holder, last = queries.job(first.id), queries.job(third.id)
    assert holder
    assert last
    assert last.waits
    assert (holder.waits, holder.holds_back) == (None, 2)
    assert (last.waits.gate, last.waits.before, last.waits.held_by) == ("sequence:a", 2, [first.id])
    queries.close()

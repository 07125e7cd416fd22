"""Gates in the ledger: who enters, who is blocked, who is woken; on both databases, for both roads."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from control import Control, limits
from control import jobs as verbs
from ledger.gates import Entering, Entry, Gate
from ledger.queries import Queries
from ledger.records import Due, Finish, Ticket, Verdict
from ledger.statements import statements
from ledger.states import Outcome, State
from ledger.tables import attempts, blocked, claims, gates, jobs, slots
from tests.gated_ledger import (
    BLOCKED,
    ENTERED,
    HOUR_MS,
    TWO,
    blocked_one,
    come_back,
    end,
    enter,
    entered,
    survey,
    tend,
    woken,
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


def test_a_gate_lets_in_as_many_as_it_has_room_for(ledger: LedgerUnderTest) -> None:
    first, second, third = (ledger.active() for _ in range(3))
    assert enter(ledger, first, second, third) == [ENTERED, ENTERED, BLOCKED]
    assert ledger.state(third[0]) is State.DELAYED
    assert ledger.rows(claims, third[0]) == []
    assert ledger.attempts(third[0]) == [(None, "parked")], "no attempt was spent"
    [row] = ledger.rows(attempts, third[0])
    assert row["error_message"] == "running:mail: 2 of 2 running"


def test_a_job_that_is_blocked_has_no_ticket_and_nothing_promotes_it(ledger: LedgerUnderTest) -> None:
    entered(ledger), entered(ledger)
    job = blocked_one(ledger)
    assert ledger.session.promote(100, resend_after_s=30) == []
    assert ledger.session.resend() == 0
    assert (ledger.state(job), survey(ledger)) == (State.DELAYED, [])
    ticket = ledger.row(job)["ticket"]
    assert ledger.claim(job, ticket=ticket)[0].verdict is Verdict.DROP, "nor does its old message"


def test_the_finish_that_frees_a_slot_wakes_exactly_the_next_by_priority_then_by_due_time(
    ledger: LedgerUnderTest,
) -> None:
    running = [entered(ledger), entered(ledger)]
    late, urgent, later = blocked_one(ledger), blocked_one(ledger, priority=1), blocked_one(ledger)
    assert end(ledger, *running[0]) == [urgent.id]
    assert [ledger.state(job) for job in (late, urgent, later)] == [State.DELAYED, State.WAITING, State.DELAYED]
    assert end(ledger, *running[1]) == [late.id]
    assert [enter(ledger, come_back(ledger, job)) for job in (urgent, late)] == [[ENTERED], [ENTERED]]
    assert [row["job_id"] for row in ledger.rows(blocked)] == [later.id]


@pytest.mark.parametrize("outcome", [Outcome.RETRYING, Outcome.FAILED, Outcome.PARKED, Outcome.INTERRUPTED])
def test_however_an_attempt_ends_its_slot_is_free(ledger: LedgerUnderTest, outcome: Outcome) -> None:
    running = [entered(ledger), entered(ledger)]
    job = blocked_one(ledger)
    assert end(ledger, *running[0], outcome, delay_ms=HOUR_MS) == [job.id]
    assert len(ledger.rows(slots)) == 1


def test_a_job_in_two_gates_enters_both_or_none(ledger: LedgerUnderTest) -> None:
    ada, bob = (Gate(f"running:user={name}", "running:user", 1) for name in ("ada", "bob"))
    running = entered(ledger, gates=[TWO, ada])
    waits = blocked_one(ledger, gates=[TWO, ada])
    assert {row["gate"] for row in ledger.rows(blocked)} == {ada.key}
    other = entered(ledger, gates=[TWO, bob])
    assert len(ledger.rows(slots)) == 4
    assert end(ledger, *other) == [], "nobody waits for those"
    assert end(ledger, *running) == [waits.id]


def test_a_woken_job_that_is_blocked_at_its_other_gate_leaves_its_room_to_the_next(ledger: LedgerUnderTest) -> None:
    one, narrow = Gate("running:all", "running:all", 1), Gate("running:user=1", "running:user", 1)
    running = entered(ledger, gates=[one])
    both, simple = blocked_one(ledger, gates=[one, narrow]), blocked_one(ledger, gates=[one])
    entered(ledger, gates=[narrow])
    assert end(ledger, *running) == [both.id]
    assert enter(ledger, come_back(ledger, both), gates=[one, narrow]) == [BLOCKED]
    assert tend(ledger) == [simple.id]


def test_asking_again_after_a_lost_answer_changes_nothing(ledger: LedgerUnderTest) -> None:
    asking = [ledger.active() for _ in range(3)]
    assert enter(ledger, *asking) == [ENTERED, ENTERED, BLOCKED]
    before = ledger.rows(slots), ledger.rows(blocked), ledger.rows(attempts)
    assert enter(ledger, *asking) == [ENTERED, ENTERED, BLOCKED]
    assert (ledger.rows(slots), ledger.rows(blocked), ledger.rows(attempts)) == before


def test_a_finish_whose_answer_was_lost_wakes_nobody_twice(ledger: LedgerUnderTest) -> None:
    running = [entered(ledger), entered(ledger)]
    first, second = blocked_one(ledger), blocked_one(ledger)
    finish = Finish(running[0][0].id, running[0][1], Outcome.COMPLETED, gated=True)
    assert woken(ledger.session.finish(ledger.worker, [finish])[0]) == [first.id]
    [again] = ledger.session.finish(ledger.worker, [finish])
    assert (again.accepted, again.send, ledger.state(second)) == (True, (), State.DELAYED)
    ledger.make_due(first)  # its sender died with the answer
    if ledger.road == "rabbitmq":
        assert [due.id for due in ledger.session.promote(10, resend_after_s=30)] == [first.id]


def test_the_slot_of_a_worker_that_died_is_given_to_the_next_with_its_rescue(ledger: LedgerUnderTest) -> None:
    dead = ledger.join()
    lost = entered(ledger, worker=dead)
    entered(ledger)
    waits = blocked_one(ledger)
    ledger.silence(dead)
    assert ledger.session.rescue(10).returned == 1
    assert tend(ledger) == [waits.id]
    assert lost[0].id not in {row["job_id"] for row in ledger.rows(slots)}


def test_a_job_whose_worker_died_before_it_entered_leaves_nothing_behind(ledger: LedgerUnderTest) -> None:
    dead = ledger.join()
    ledger.active(worker=dead)
    ledger.silence(dead)
    ledger.session.rescue(10)
    assert (ledger.rows(slots), tend(ledger)) == ([], [])


def test_a_job_given_back_frees_its_slot(ledger: LedgerUnderTest) -> None:
    running = [entered(ledger), entered(ledger)]
    waits = blocked_one(ledger)
    ledger.session.release(ledger.worker, [(running[0][0].id, running[0][1])])
    assert tend(ledger) == [waits.id]


def test_a_job_that_was_asked_to_stop_is_not_blocked(ledger: LedgerUnderTest) -> None:
    entered(ledger), entered(ledger)
    job, epoch = ledger.active()
    ledger.ask_cancel(job)
    assert enter(ledger, (job, epoch)) == [Entry.CANCELLED]
    assert ledger.state(job) is State.ACTIVE


def test_a_capacity_changed_by_an_operator_counts_from_then_on(ledger: LedgerUnderTest, control: Control) -> None:
    running = [entered(ledger), entered(ledger)]
    waiting = [blocked_one(ledger) for _ in range(3)]
    change(control, 4)
    assert tend(ledger) == [job.id for job in waiting[:2]]
    for job in waiting[:2]:
        assert enter(ledger, come_back(ledger, job)) == [ENTERED]
    change(control, 1)
    assert [end(ledger, *each) for each in running] == [[], []]
    assert enter(ledger, ledger.active()) == [BLOCKED]


def change(control: Control, count: int) -> None:
    limits.change(control, TWO.rule, count, 0.0, count, by="ada")


def test_a_woken_job_that_does_not_come_is_in_nobodys_way_for_long(ledger: LedgerUnderTest) -> None:
    running = [entered(ledger), entered(ledger)]
    paused, waits = blocked_one(ledger), blocked_one(ledger)
    assert end(ledger, *running[0]) == [paused.id]
    assert survey(ledger) == [], "it is on its way"
    ledger.change(blocked, paused, woken_at=ledger.now() - timedelta(seconds=11))
    assert survey(ledger) == [waits.id]


def test_gates_of_no_use_are_forgotten(ledger: LedgerUnderTest) -> None:
    running = entered(ledger)
    assert survey(ledger) == []
    assert [row["key"] for row in ledger.rows(gates)] == [TWO.key]
    end(ledger, *running)
    survey(ledger)
    assert ledger.rows(gates) == []


def test_processes_that_enter_and_leave_at_once_never_exceed_a_gate_and_strand_nobody(
    ledger: LedgerUnderTest,
) -> None:
    todo = [ledger.enqueue() for _ in range(60)]
    mine = [ledger.ledger.session("gates") for _ in range(4)]

    def work(n: int) -> None:
        session, queue = mine[n], [(job.id, 1) for job in todo[n::4]]
        while queue:
            id, ticket = queue.pop(0)
            [claim] = session.claim(ledger.worker, [Ticket(id, ticket, "q")], suspects=9)
            if claim.verdict is not Verdict.RUN or session.enter([Entering(id, claim.epoch, [TWO])]) == [BLOCKED]:
                continue
            [answer] = session.finish(ledger.worker, [Finish(id, claim.epoch, Outcome.COMPLETED, gated=True)])
            queue += [(due.id, due.ticket) for due in answer.send if isinstance(due, Due)]

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert {row["state"] for row in ledger.rows(jobs)} == {"completed"}
    assert (ledger.rows(blocked), ledger.rows(slots)) == ([], [])
    assert most_at_once(ledger) <= 2
    for session in mine:
        session.close()


def most_at_once(ledger: LedgerUnderTest) -> int:
    ran = [row for row in ledger.rows(attempts) if row["outcome"] != "parked"]
    return max(len([x for x in ran if x["started_at"] <= at["started_at"] < x["finished_at"]]) for at in ran)


def test_a_blocked_job_that_is_cancelled_is_not_woken(ledger: LedgerUnderTest, control: Control) -> None:
    running = [entered(ledger), entered(ledger)]
    first, second, third = (blocked_one(ledger) for _ in range(3))
    assert verbs.cancel(control, first.id, by="ada") == "cancelled"
    assert end(ledger, *running[0]) == [second.id]
    verbs.cancel(control, second.id, by="ada")
    assert tend(ledger) == [third.id], "it was on its way, and its room is free again"


def test_a_blocked_job_is_shown_with_what_it_waits_for(ledger: LedgerUnderTest) -> None:
    running = [entered(ledger), entered(ledger)]
    _, job = blocked_one(ledger), blocked_one(ledger)
    queries = Queries(ledger.url)
    view = queries.job(job.id)
    assert view
    assert view.waits
    assert (view.waits.gate, view.waits.before) == (TWO.key, 1)
    assert sorted(view.waits.held_by) == sorted(holder.id for holder, _ in running)
    [gate] = queries.gates(10)
    assert (gate.key, gate.capacity, gate.waiting, gate.since) == (TWO.key, 2, 2, gate.since)
    assert gate.held_by == view.waits.held_by
    queries.close()


def test_an_operators_retry_of_a_blocked_job_only_makes_it_ask_again(ledger: LedgerUnderTest, control: Control) -> None:
    running = [entered(ledger), entered(ledger)]
    job = blocked_one(ledger)
    verbs.retry(control, job.id, by="ada")
    assert enter(ledger, come_back(ledger, job)) == [BLOCKED]
    assert end(ledger, *running[0]) == [job.id]


def test_a_job_of_no_gate_and_no_line_sends_no_statement_about_them(
    ledger: LedgerUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []

    class Noted(dict[str, str]):
        def __getitem__(self, name: str) -> str:
            ran.append(sql := super().__getitem__(name))
            return sql

    dialect = "sqlite" if ledger.url.startswith("sqlite") else "postgres"
    noted = Noted(statements(dialect))
    monkeypatch.setattr(f"ledger.{dialect}.connection.statements", lambda dialect: noted)
    session = ledger.ledger.session("counted")
    job, other = new_job(), new_job()
    session.enqueue([job, other])
    [claim, again] = session.claim(ledger.worker, [Ticket(job.id, 1, "q"), Ticket(other.id, 1, "q")])
    session.finish(ledger.worker, [Finish(job.id, claim.epoch, Outcome.COMPLETED)])
    session.finish(ledger.worker, [Finish(other.id, again.epoch, Outcome.RETRYING)])
    session.close()
    assert len(ran) >= 4
    assert [sql for sql in ran if re.search(r"\b(gates|slots|blocked|lines)\b", sql)] == []

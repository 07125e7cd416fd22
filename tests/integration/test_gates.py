"""Gates and lines in the ledger, on SQLite and PostgreSQL and for both roads alike."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from control import Control, limits
from ledger import Road, open_ledger
from ledger.gates import Entering, Entry, Gate
from ledger.migrate import Migrations
from ledger.records import Due, Finish, Finished, Keep, Line, NewJob, Ticket, Verdict
from ledger.states import Outcome, State
from ledger.tables import attempts, blocked, claims, gates, jobs, lines, slots
from tests.ledger_under_test import LedgerUnderTest, new_job
from tests.servers import Postgres

TWO = Gate("running:mail", "running:mail", 2)
HOUR_MS = 3_600_000
NONE_KEPT = Keep(completed=0, completed_s=0, failed=0, failed_s=0)
ENTERED, BLOCKED = Entry.ENTERED, Entry.BLOCKED


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('gates') / 'ledger.db'}"
    else:
        server: Postgres = request.getfixturevalue("postgres")
        url = server.create_database()
    Migrations(url).upgrade()
    return url


@pytest.fixture(params=["rabbitmq", "embedded"])
def ledger(request: pytest.FixtureRequest, url: str) -> Iterator[LedgerUnderTest]:
    road: Road = request.param
    found = LedgerUnderTest(url, road)
    yield found
    found.close()


def enter(ledger: LedgerUnderTest, *asking: tuple[NewJob, int], gates: list[Gate] | None = None) -> list[Entry]:
    return ledger.session.enter([Entering(job.id, epoch, gates or [TWO]) for job, epoch in asking])


def entered(ledger: LedgerUnderTest, *, gates: list[Gate] | None = None, **fields: Any) -> tuple[NewJob, int]:
    """A job that runs, having entered."""
    found = ledger.active(**fields)
    assert enter(ledger, found, gates=gates) == [ENTERED]
    return found


def blocked_one(ledger: LedgerUnderTest, *, gates: list[Gate] | None = None, **fields: Any) -> NewJob:
    """A job that has found its gate full."""
    found = ledger.active(**fields)
    assert enter(ledger, found, gates=gates) == [BLOCKED]
    return found[0]


def end(
    ledger: LedgerUnderTest, job: NewJob, epoch: int, outcome: Outcome = Outcome.COMPLETED, **more: Any
) -> list[str]:
    """Finish it; the jobs that this woke."""
    answer = ledger.finish(job, epoch, outcome, gated=True, **more)
    assert answer.accepted
    return woken(answer)


def woken(answer: Finished) -> list[str]:
    assert all(isinstance(due, Due) for due in answer.send)
    return [due.id for due in answer.send]


def come_back(ledger: LedgerUnderTest, job: NewJob) -> tuple[NewJob, int]:
    """A job that was woken is claimed by its new ticket."""
    ticket = ledger.ticket(job)
    assert ticket
    assert bool(ticket["ready"]) is (ledger.road == "embedded")
    [claim] = ledger.session.claim(ledger.worker, [Ticket(job.id, ticket["ticket"], job.queue)])
    assert claim.verdict is Verdict.RUN
    return job, claim.epoch


def tend(ledger: LedgerUnderTest) -> list[str]:
    return [due.id for due in ledger.session.tend(100)]


def survey(ledger: LedgerUnderTest) -> list[str]:
    """What the safety net finds, done at once."""
    assert ledger.session.survey("", 1000) == ""
    return tend(ledger)


# -- gates


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


def test_a_capacity_changed_by_an_operator_counts_from_then_on(ledger: LedgerUnderTest) -> None:
    running = [entered(ledger), entered(ledger)]
    waiting = [blocked_one(ledger) for _ in range(3)]
    change(ledger, 4)
    assert tend(ledger) == [job.id for job in waiting[:2]]
    for job in waiting[:2]:
        assert enter(ledger, come_back(ledger, job)) == [ENTERED]
    change(ledger, 1)
    assert [end(ledger, *each) for each in running] == [[], []]
    assert enter(ledger, ledger.active()) == [BLOCKED]


def change(ledger: LedgerUnderTest, count: int) -> None:
    control = Control(ledger.url, ledger.road)
    limits.change(control, TWO.rule, count, 0.0, count, by="ada")
    control.close()


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


# -- lines


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

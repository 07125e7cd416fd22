"""Circuits in the ledger, on SQLite and PostgreSQL alike."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from ledger.breaker import Calls, Probe, Rule, Standing
from ledger.records import NewJob
from ledger.states import Outcome
from ledger.tables import circuits, deferrals, journal, probes
from tests.ledger_under_test import LedgerUnderTest

SECOND = 1_000_000
RULE = Rule(0.5, 4, 60 * SECOND, 30 * SECOND, 600 * SECOND, 2)


@pytest.fixture
def ledger(database_url: str) -> Iterator[LedgerUnderTest]:
    found = LedgerUnderTest(database_url, "rabbitmq")
    yield found
    found.close()


def call(ledger: LedgerUnderTest, term: int = 0, *, ok: int = 0, failed: int = 0) -> Standing:
    [standing] = ledger.session.circuits(
        ledger.worker, [Calls("c", RULE, term, ok + failed, failed, "E" * bool(failed))]
    )
    return standing


def half_open(ledger: LedgerUnderTest) -> None:
    with ledger.database.write() as connection:
        connection.execute(circuits.update().values(until=ledger.database.time(connection) - timedelta(seconds=1)))


def ask(ledger: LedgerUnderTest, *asking: tuple[NewJob, int]) -> list[bool]:
    wanted = [Probe("c", RULE, job.id, epoch) for job, epoch in asking]
    return [standing.admitted for standing in ledger.session.probe(wanted)]


def test_a_circuit_nobody_has_used_is_closed_and_to_look_writes_nothing(ledger: LedgerUnderTest) -> None:
    assert call(ledger) == Standing()
    assert ledger.rows(circuits) == []


def test_what_processes_report_counts_together(ledger: LedgerUnderTest) -> None:
    sessions = [ledger.new_session() for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda session: session.circuits(ledger.worker, [Calls("c", RULE, 0, 3, 1, "E")] * 5), sessions))
    [row] = ledger.rows(circuits)
    parts = json.loads(row["counted"])
    assert (sum(calls for _, calls, _ in parts), sum(failures for _, _, failures in parts)) == (60, 20)
    assert row["until"] is None


def test_it_opens_for_everybody_and_says_since_when_why_and_by_whom(ledger: LedgerUnderTest) -> None:
    assert call(ledger, ok=1, failed=2).open_s is None
    before = ledger.now()
    standing = call(ledger, failed=1)
    assert standing.term == 1
    assert standing.open_s == pytest.approx(30, abs=0.5)
    assert standing.length_s == 30
    assert ledger.new_session().circuits(0, [Calls("c", RULE)])[0].term == 1
    [row] = ledger.rows(circuits)
    assert row["since"] >= before
    assert row["changed_by"] == f"worker {ledger.worker}"
    assert row["why"] == "3 of 4 calls failed within 60 s, the last with E"
    [line] = ledger.rows(journal)
    assert (line["job_id"], line["event"], line["actor"]) == (None, "circuit opened", f"worker {ledger.worker}")
    assert json.loads(line["detail"])["circuit"] == "c"


def test_while_it_is_open_nobody_may_probe_and_then_as_many_as_the_rule_says(ledger: LedgerUnderTest) -> None:
    call(ledger, failed=4)
    jobs = [ledger.active() for _ in range(4)]
    assert ask(ledger, *jobs) == [False] * 4
    half_open(ledger)
    assert ask(ledger, *jobs[:3]) == [True, True, False]
    assert ask(ledger, jobs[0]) == [True], "its answer was lost: asked again, it has its slot"
    assert ask(ledger, jobs[3]) == [False]
    ledger.finish(*jobs[0], Outcome.SNOOZED)
    assert ask(ledger, jobs[3]) == [True], "a probe that ends gives its slot back, whatever it says"


def test_the_slot_of_a_probe_whose_worker_dies_is_free_when_it_is_rescued(ledger: LedgerUnderTest) -> None:
    call(ledger, failed=4)
    half_open(ledger)
    dead = ledger.join()
    held = [ledger.active(worker=dead) for _ in range(2)]
    assert ask(ledger, *held) == [True, True]
    other = ledger.active()
    assert ask(ledger, other) == [False]
    ledger.silence(dead)
    assert ledger.session.rescue(10.0).returned == 2
    assert ask(ledger, other) == [True]
    assert [row["job_id"] for row in ledger.rows(probes)] == [other[0].id]


def test_a_probe_that_succeeds_closes_it_and_one_that_fails_opens_it_for_longer(ledger: LedgerUnderTest) -> None:
    call(ledger, failed=4)
    half_open(ledger)
    assert call(ledger).open_s == 0
    again = call(ledger, 1, failed=1)
    assert (again.term, again.length_s) == (2, 60)
    half_open(ledger)
    assert call(ledger, 1, ok=1).term == 2, "of an earlier term"
    assert call(ledger, 2, ok=1) == Standing(3)
    assert [row["event"] for row in ledger.rows(journal)] == ["circuit opened", "circuit opened", "circuit closed"]


def test_jobs_put_off_come_back_when_it_closes_and_not_before(ledger: LedgerUnderTest) -> None:
    call(ledger, failed=4)
    jobs = []
    for _ in range(3):
        job, epoch = ledger.active()
        ledger.finish(job, epoch, Outcome.PARKED, delay_ms=3_600_000, circuit="c")
        jobs.append(job)
    assert [row["circuit"] for row in ledger.rows(deferrals)] == ["c"] * 3
    assert ledger.session.recall(10, spread_s=1) == 0
    half_open(ledger)
    assert ledger.session.recall(10, spread_s=1) == 0
    call(ledger, 1, ok=1)
    assert ledger.session.recall(2, spread_s=1) == 2
    assert ledger.session.recall(2, spread_s=1) == 1
    soon = ledger.now() + timedelta(seconds=1)
    due = [ticket["due_at"] for job in jobs if (ticket := ledger.ticket(job))]
    assert len(due) == 3
    assert max(due) <= soon
    assert len(set(due)) == 3, "spread"
    assert ledger.rows(deferrals) == []


def test_a_job_that_has_another_ticket_by_then_is_left_alone(ledger: LedgerUnderTest) -> None:
    call(ledger, failed=4)
    job, epoch = ledger.active()
    ledger.finish(job, epoch, Outcome.PARKED, delay_ms=0, circuit="c")
    ledger.session.promote(10, resend_after_s=1)
    [claim] = ledger.claim(job)
    ledger.finish(job, claim.epoch, Outcome.RETRYING, delay_ms=3_600_000)
    was = ledger.ticket(job)
    call(ledger, 1, ok=1)
    assert ledger.session.recall(10, spread_s=1) == 1
    assert ledger.ticket(job) == was


def test_a_job_cancelled_meanwhile_is_not_put_off(ledger: LedgerUnderTest) -> None:
    call(ledger, failed=4)
    job, epoch = ledger.active()
    ledger.ask_cancel(job)
    assert ledger.finish(job, epoch, Outcome.PARKED, delay_ms=1000, circuit="c").state == "cancelled"
    assert ledger.rows(deferrals) == []

"""Rate limits in the ledger, on SQLite and PostgreSQL alike."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import pairwise

import psycopg
import pytest

from ledger import open_ledger
from ledger.gcra import Pace, Share, Wanted
from ledger.postgres.connection import Cursor, Row
from ledger.records import Keep, NewJob
from ledger.states import Outcome
from ledger.tables import attempts, claims, limit_rules, limits, reservations
from tests.ledger_under_test import LedgerUnderTest

TEN = Pace.of(10, 1.0, 1)


@pytest.fixture
def ledger(database_url: str) -> Iterator[LedgerUnderTest]:
    found = LedgerUnderTest(database_url, "rabbitmq")
    yield found
    found.close()


def share(key: str = "mail", pace: Pace = TEN, cost: int = 1) -> Share:
    return Share(key, key, pace, cost)


def ask(ledger: LedgerUnderTest, *asking: tuple[NewJob, int], shares: list[Share] | None = None) -> list[float]:
    return ledger.session.reserve([Wanted(job.id, epoch, shares or [share()]) for job, epoch in asking], soon_s=0.15)


def test_starts_of_one_limit_are_spread_over_time(ledger: LedgerUnderTest) -> None:
    jobs = [ledger.active() for _ in range(4)]
    waits = ask(ledger, *jobs)
    assert waits == pytest.approx([0, 0.1, 0.2, 0.3], abs=1e-5)
    kept = {row["job_id"]: row["slot_at"] for row in ledger.rows(reservations)}
    assert list(kept) == [job.id for job, _ in jobs[2:]], "the others are about to start"
    begun = [ledger.rows(claims, job)[0]["claimed_at"] for job, _ in jobs[:2]]
    assert begun[1] - begun[0] == timedelta(seconds=0.1), "an attempt starts when its limits let it"
    ledger.finish(*jobs[1], Outcome.COMPLETED)
    [attempt] = ledger.rows(attempts, jobs[1][0])
    assert attempt["started_at"] == begun[1]


def test_a_job_that_asks_again_keeps_its_slot(ledger: LedgerUnderTest) -> None:
    first, second, third = (ledger.active() for _ in range(3))
    ask(ledger, first, second)
    [wait] = ask(ledger, third)
    [again] = ask(ledger, third)
    assert again < wait
    [fourth] = ask(ledger, ledger.active())
    assert 0.05 < fourth - again < 0.15, "it was not paid twice"


def test_processes_that_ask_at_once_share_one_limit(ledger: LedgerUnderTest) -> None:
    jobs = [ledger.active() for _ in range(40)]
    sessions = [open_ledger(ledger.url, road="rabbitmq").session("limits") for _ in range(4)]

    def ask_ten(n: int) -> list[float]:
        wanted = [Wanted(job.id, epoch, [share()]) for job, epoch in jobs[n::4]]
        return [wait for want in wanted for wait in sessions[n].reserve([want], soon_s=100.0)]

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(ask_ten, range(4)))
    starts = sorted(row["claimed_at"] for row in ledger.rows(claims))
    gaps = [(late - early).total_seconds() for early, late in pairwise(starts)]
    assert len(starts) == 40
    assert min(gaps) > 0.0999
    for session in sessions:
        session.close()


def test_a_limit_that_is_forgotten_while_it_is_asked_is_charged_all_the_same(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = LedgerUnderTest(postgres_url, "rabbitmq")
    asked = [ledger.active(), ledger.active()]
    ask(ledger, ledger.active(), shares=[share("mail", Pace.of(10**6, 1.0, 1))])
    right, left = Cursor.run, ["add_limits"]

    def forgets_after(cursor: Cursor, name: str, *parameters: object) -> list[Row]:
        rows = right(cursor, name, *parameters)
        if name in left:
            left.remove(name)
            with psycopg.connect(ledger.url) as retention:
                retention.execute("DELETE FROM limits WHERE key = 'mail'")
        return rows

    monkeypatch.setattr(Cursor, "run", forgets_after)
    assert ask(ledger, *asked) == pytest.approx([0, 0.1], abs=1e-5)
    assert left == []
    assert [row["key"] for row in ledger.rows(limits)] == ["mail"]
    ledger.close()


def test_when_the_other_side_wants_peace_nothing_of_the_limit_starts(ledger: LedgerUnderTest) -> None:
    ledger.session.slow([share()], 30.0)
    [wait] = ask(ledger, ledger.active())
    assert 29.5 < wait <= 30.0
    assert ask(ledger, ledger.active(), shares=[share("other")]) == [0.0]


def test_a_limit_changed_by_an_operator_counts_from_then_on(ledger: LedgerUnderTest) -> None:
    now = ledger.now()
    with ledger.database.write() as connection:
        connection.execute(
            limit_rules.insert().values(rule="mail", count=1, per_s=60, burst=1, changed_at=now, changed_by="ada")
        )
    assert ask(ledger, ledger.active(), ledger.active()) == pytest.approx([0, 60], abs=1e-5)


def test_retention_forgets_limits_that_are_paid_off_and_slots_long_past(ledger: LedgerUnderTest) -> None:
    ask(ledger, ledger.active(), ledger.active(), ledger.active())
    ask(ledger, ledger.active(), shares=[share("slow", Pace.of(1, 86_400.0, 1))])
    ledger.session.retain({}, Keep(), history_s=0)
    assert len(ledger.rows(reservations)) == 1
    now = ledger.now()
    with ledger.database.write() as connection:
        connection.execute(reservations.update().values(slot_at=now - timedelta(hours=2)))
        connection.execute(limits.update().where(limits.c.key == "mail").values(paid_at=now - timedelta(hours=1)))
    ledger.session.retain({}, Keep(), history_s=0)
    assert ledger.rows(reservations) == []
    assert [row["key"] for row in ledger.rows(limits)] == ["slow"]

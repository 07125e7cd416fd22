"""What the ledger makes of ticks, on both databases and both roads."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import insert, select, update

from ledger import Road
from ledger.migrate import Migrations
from ledger.records import Key, NewJob
from ledger.schedules import Overlap, Schedule
from ledger.states import Outcome
from ledger.tables import jobs, journal, schedules, ticks
from ledger.ticks import LEASE, Tick, Ticked, TickOutcome
from tests.ledger_under_test import LedgerUnderTest, new_job
from tests.servers import Postgres

SECOND = timedelta(seconds=1)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('ticks') / 'ledger.db'}"
    else:
        server: Postgres = request.getfixturevalue("postgres")
        server.start()
        url = server.create_database()
    Migrations(url).upgrade()
    return url


class Leader(LedgerUnderTest):
    """A ledger with one schedule, ``beat``, and the lease."""

    def lead(self) -> None:
        self.start = self.session.clock() - timedelta(hours=1)
        definition = Schedule("beat", "act", "every 1s").definition()
        row = {"source": "data", "actor": "act", "definition": definition, "revision": 1, "changed_by": "test"}
        times = dict.fromkeys(("created_at", "changed_at", "done_until"), self.start)
        with self.database.write() as connection:
            connection.execute(insert(schedules).values(key="beat", **row, **times))
        term = self.session.lease(LEASE, "me", 60)
        assert term is not None
        self.term = term

    def at(self, second: int) -> datetime:
        return self.start + second * SECOND

    def tick(self, second: int, job: NewJob | None = None, **fields: Any) -> Tick:
        at = self.at(second)
        job = job or new_job(tick=("beat", at)) if "outcome" not in fields else None
        known: dict[str, Any] = {"schedule": "beat", "revision": 1, "fire_at": at, "due_at": at, "job": job}
        return Tick(**(known | fields))

    def decide(self, *asked: Tick) -> list[Ticked]:
        answers = self.session.tick("me", self.term, asked)
        assert answers is not None
        return answers

    def outcomes(self) -> list[str]:
        with self.database.read() as connection:
            return list(connection.scalars(select(ticks.c.outcome).order_by(ticks.c.fire_at)))

    def schedule(self) -> Any:
        with self.database.read() as connection:
            return connection.execute(select(schedules).where(schedules.c.key == "beat")).one()

    def sent(self, second: int, **fields: Any) -> NewJob:
        tick = self.tick(second, **fields)
        [answer] = self.decide(tick)
        assert answer.outcome is TickOutcome.SENT
        assert tick.job is not None
        return tick.job

    def ends(self, job: NewJob, outcome: Outcome) -> None:
        [claim] = self.claim(job)
        self.finish(job, claim.epoch, outcome)


@pytest.fixture(params=["embedded", "rabbitmq"])
def leader(request: pytest.FixtureRequest, url: str) -> Iterator[Leader]:
    road: Road = request.param
    leader = Leader(url, road)
    leader.lead()
    yield leader
    leader.close()


def test_a_tick_records_its_job_and_moves_its_schedule_on(leader: Leader) -> None:
    job = leader.sent(7)
    assert leader.row(job)["state"] == "waiting"
    [row] = leader.rows(ticks)
    assert (row["outcome"], row["job_id"]) == ("sent", job.id)
    assert 3590_000 < row["late_ms"] < 3700_000
    assert leader.schedule().done_until == leader.at(7)
    assert leader.schedule().last_job_id == job.id


def test_the_same_tick_again_whoever_sends_it_records_nothing(leader: Leader) -> None:
    tick = leader.tick(1)
    for again in (tick, tick, leader.tick(1)):
        answers = leader.decide(again)
    assert answers[0].outcome is TickOutcome.DUPLICATE
    assert len(leader.rows(jobs)) == 1
    assert leader.outcomes() == ["sent"]


def test_an_earlier_tick_than_the_last_decided_records_nothing(leader: Leader) -> None:
    leader.sent(5)
    assert leader.decide(leader.tick(4))[0].outcome is TickOutcome.DUPLICATE
    assert len(leader.rows(jobs)) == 1


def test_of_a_leader_that_was_replaced_nothing_is_recorded(leader: Leader) -> None:
    leader.session.unlease(LEASE, "me")
    other = leader.session.lease(LEASE, "other", 60)
    assert other == leader.term + 1
    assert leader.session.tick("me", leader.term, [leader.tick(1)]) is None
    assert leader.session.tick("me", other, [leader.tick(1)]) is None
    assert leader.rows(jobs) == leader.rows(ticks) == []
    leader.session.unlease(LEASE, "other")
    assert leader.session.lease(LEASE, "me", 60) == other + 1
    assert leader.session.tick("me", leader.term, [leader.tick(1)]) is None


def test_a_tick_of_a_schedule_that_was_changed_or_is_gone_records_nothing(leader: Leader) -> None:
    gone = leader.tick(1, new_job(tick=("other", leader.at(1))), schedule="other")
    assert [answer.outcome for answer in leader.decide(leader.tick(1, revision=2), gone, leader.tick(1))] == [
        None,
        None,
        TickOutcome.SENT,
    ]
    assert len(leader.rows(jobs)) == 1


def test_a_tick_that_waits_is_tried_again_and_sent(leader: Leader) -> None:
    for _ in range(2):
        leader.decide(leader.tick(3, outcome=TickOutcome.WAITING, why="the queue is full"))
    assert leader.outcomes() == ["waiting"]
    assert leader.schedule().done_until == leader.start
    job = leader.sent(3)
    [row] = leader.rows(ticks)
    assert (row["outcome"], row["why"], row["job_id"]) == ("sent", "", job.id)


def test_what_is_missed_or_refused_is_recorded_and_not_tried_again(leader: Leader) -> None:
    leader.decide(
        leader.tick(1, outcome=TickOutcome.MISSED, why="all since long"),
        leader.tick(2, outcome=TickOutcome.REFUSED, why="no actor 'x'"),
    )
    assert leader.outcomes() == ["missed", "refused"]
    assert leader.schedule().done_until == leader.at(2)
    assert leader.rows(jobs) == []


def test_several_ticks_of_a_schedule_are_all_sent_in_one_call(leader: Leader) -> None:
    answers = leader.decide(*(leader.tick(second) for second in range(1, 6)))
    assert {answer.outcome for answer in answers} == {TickOutcome.SENT}
    assert len({job["id"] for job in leader.rows(jobs)}) == 5


def test_while_the_last_job_lives_a_tick_is_sent_skipped_or_waits_as_its_schedule_says(leader: Leader) -> None:
    first = leader.sent(1)
    second = leader.sent(2, overlap=Overlap.ALLOW)
    assert leader.decide(leader.tick(3, overlap=Overlap.SKIP))[0].outcome is TickOutcome.SKIPPED
    assert leader.decide(leader.tick(4, overlap=Overlap.QUEUE))[0].outcome is TickOutcome.WAITING
    leader.ends(first, Outcome.COMPLETED)
    assert leader.decide(leader.tick(4, overlap=Overlap.QUEUE))[0].outcome is TickOutcome.WAITING
    leader.ends(second, Outcome.COMPLETED)
    leader.sent(4, overlap=Overlap.QUEUE)
    assert leader.outcomes() == ["sent", "sent", "skipped", "sent"]


def test_the_last_job_is_cancelled_for_the_next_or_asked_to_stop_while_it_runs(leader: Leader) -> None:
    waits = leader.sent(1)
    runs = leader.sent(2, overlap=Overlap.CANCEL)
    assert leader.row(waits)["state"] == "cancelled"
    assert leader.ticket(waits) is None
    leader.claim(runs)
    leader.sent(3, overlap=Overlap.CANCEL)
    assert (leader.row(runs)["state"], bool(leader.row(runs)["cancel_requested"])) == ("active", True)
    with leader.database.read() as connection:
        lines = connection.execute(select(journal.c.job_id, journal.c.event, journal.c.actor).order_by(journal.c.id))
        assert [tuple(line) for line in lines] == [
            (waits.id, "cancelled", "schedule beat"),
            (runs.id, "cancel_requested", "schedule beat"),
        ]


def test_jobs_that_fail_in_a_row_are_counted(leader: Leader) -> None:
    for second, outcome in enumerate([Outcome.FAILED, Outcome.FAILED, Outcome.FAILED], 1):
        leader.ends(leader.sent(second), outcome)
    assert leader.schedule().failures == 2  # and the last one, which the next tick counts
    job = leader.sent(4)
    assert leader.schedule().failures == 3
    leader.ends(job, Outcome.COMPLETED)
    leader.sent(5)
    assert leader.schedule().failures == 0


def test_a_job_that_is_one_of_a_kind_and_there_already_is_a_duplicate(leader: Leader) -> None:
    leader.enqueue(key=Key("aa"))
    [answer] = leader.decide(leader.tick(1, new_job(tick=("beat", leader.at(1)), key=Key("aa"))))
    assert answer.outcome is TickOutcome.DUPLICATE
    [row] = leader.rows(ticks)
    assert (row["outcome"], row["job_id"]) == ("duplicate", None)


def test_a_schedule_whose_last_job_is_forgotten_goes_on(leader: Leader) -> None:
    with leader.database.write() as connection:
        connection.execute(update(schedules).values(last_job_id=new_job().id))
    leader.sent(1, overlap=Overlap.SKIP)


def test_the_databases_clock_is_the_one_its_rows_bear(leader: Leader) -> None:
    before = leader.session.clock()
    job = leader.enqueue()
    created = leader.row(job)["created_at"]
    assert before - timedelta(milliseconds=2) <= created <= leader.session.clock() + timedelta(milliseconds=2)

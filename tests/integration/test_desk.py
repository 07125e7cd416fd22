"""What becomes of claimed jobs that cannot be run as they are: between a claim and a worker thread."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest

from broker.desk import Desk
from broker.intake import Intake
from broker.work import WorkQueue
from ledger.recorder import Recorder
from ledger.records import Finish, Finished, NewJob
from ledger.states import Outcome, State
from ledger.tables import attempts, jobs
from middleware.aliases import Aliases
from tests.ledger_under_test import LedgerUnderTest

UNKNOWN = (
    b'{"queue_name": "q", "actor_name": "nobody", "args": [], "kwargs": {}, "options": {}, "message_id": "1", '
    b'"message_timestamp": 1}'
)


@dataclass
class Office:
    """A desk before a ledger, and an intake with one slot."""

    ledger: LedgerUnderTest
    grace_s: float = 300.0
    done: list[str] = field(default_factory=list)
    buried: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.recorder = Recorder(self.ledger.ledger)
        self.recorder.worker = self.ledger.worker
        self.desk = Desk(
            self.recorder,
            {"act": None},
            Aliases(),
            send=lambda jobs: None,
            bury=lambda claim, message, body, finish: self.buried.append(claim.id),
            unknown_actor_grace_s=self.grace_s,
        )
        self.intake = Intake(
            "q",
            1,
            0.01,
            WorkQueue(lambda: 0),
            begin=lambda intake: None,
            on_room=lambda intake, arrival: None,
            on_pace=lambda intake: None,
            release=self.recorder.release,
            forget=self.recorder.forget,
        )

    def admit(self, job: NewJob, body: Any = None) -> None:
        """The job comes in; returns when what is recorded of it at once is committed."""
        assert self.intake.reserve()
        [claim] = self.ledger.claim(job)
        self.recorder.took(claim)
        self.desk.admit(claim, job.body if body is None else body, self.intake, lambda: self.done.append(job.id))
        assert self.recorder.flush(20)


@pytest.fixture
def office(database_url: str) -> Iterator[Office]:
    found = Office(LedgerUnderTest(database_url, "rabbitmq"))
    yield found
    found.recorder.stop()
    found.ledger.close()


def test_the_grace_of_an_actor_nobody_knows_yet_counts_from_when_its_job_became_due(office: Office) -> None:
    job = office.ledger.enqueue(body=UNKNOWN)
    office.ledger.change(jobs, job, created_at=office.ledger.now() - timedelta(days=1))
    office.admit(job)
    assert office.ledger.attempts(job) == [(None, Outcome.PARKED)]
    assert office.ledger.state(job) is State.DELAYED, "a job delayed for a day has its whole grace"
    assert (office.done, office.intake.room) == ([job.id], 1)


def test_that_grace_ends_however_often_the_job_was_put_off(office: Office) -> None:
    job = office.ledger.enqueue(body=UNKNOWN)
    office.ledger.change(jobs, job, run_at=office.ledger.now() - timedelta(hours=1))
    office.desk.unknown_actor_grace_s = 7_200
    office.admit(job)
    assert office.ledger.state(job) is State.DELAYED
    office.ledger.make_due(job)
    office.desk.unknown_actor_grace_s = 3_600
    office.ledger.session.promote(10, resend_after_s=30)
    office.admit(job)
    row = office.ledger.row(job)
    assert (row["state"], row["reason"]) == ("failed", "unknown_actor")
    assert office.buried == [job.id]


class Unlucky(dict[str, Any]):
    """Actors whose look-up fails: it stands for whatever nobody has thought of."""

    def __contains__(self, name: object) -> bool:
        raise MemoryError("no more")


def test_a_message_that_breaks_the_desk_costs_no_slot_and_is_a_dead_letter(office: Office) -> None:
    job = office.ledger.enqueue(body=UNKNOWN)
    office.desk.actors = Unlucky()
    office.admit(job)
    row = office.ledger.row(job)
    assert (row["state"], row["reason"]) == ("failed", "malformed")
    assert [x["error_type"] for x in office.ledger.rows(attempts, job)] == ["MemoryError"]
    assert (office.done, office.buried, office.intake.room) == ([job.id], [job.id], 1)
    assert office.recorder.held == {}


def test_a_job_whose_end_cannot_be_handed_over_costs_no_slot_and_is_given_back(office: Office) -> None:
    def refuse(finish: Finish, answer: Callable[[Finished], None]) -> None:
        raise RuntimeError("can't start new thread")

    job = office.ledger.enqueue(body=UNKNOWN)
    office.recorder.finish = refuse  # type: ignore[method-assign]
    office.admit(job)
    assert (office.done, office.intake.room, office.recorder.held) == ([job.id], 1, {})
    assert office.ledger.session.beat(office.ledger.worker, [], lease_s=0).released == 1
    assert office.ledger.state(job) is State.WAITING

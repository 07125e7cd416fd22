"""Steps of tests about gates and lines: entering, ending, and coming back when woken."""

from typing import Any

from ledger.gates import Entering, Entry, Gate
from ledger.records import Due, Finished, NewJob, Ticket, Verdict
from ledger.states import Outcome
from tests.ledger_under_test import LedgerUnderTest

TWO = Gate("running:mail", "running:mail", 2)
HOUR_MS = 3_600_000
ENTERED, BLOCKED = Entry.ENTERED, Entry.BLOCKED


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

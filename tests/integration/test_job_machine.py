"""Whatever happens to jobs, in whatever order: a ledger beside a model that says what must come of it.

On SQLite, whose clock the machine moves; test_ledger_conformance.py holds PostgreSQL to the same contract.
"""

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from control import Control
from control.jobs import cancel, retry
from errors import IllegalTransition
from hareline_testing.clock import Clock
from ledger import Road
from ledger.ledger import RESEND_BATCH
from ledger.records import Claim, Finish, Keep, Ticket, Verdict
from ledger.sqlite.giveback import CHARGES
from ledger.states import FINISHED, LIVE, TRANSITIONS, Outcome, Reason, State
from tests.ledger_under_test import LedgerUnderTest, new_job
from tests.machines import check

LEASE_S = 30
SECOND = 1_000_000
NEARLY = 10_000  #: the clock goes a microsecond further at every look
LEGAL = {pair for pairs in TRANSITIONS.values() for pair in pairs}

#: Where each outcome leads, and whether it spends an attempt.
ENDS = {
    Outcome.COMPLETED: (State.COMPLETED, True),
    Outcome.SKIPPED: (State.COMPLETED, True),
    Outcome.FAILED: (State.FAILED, True),
    Outcome.CANCELLED: (State.CANCELLED, False),
    Outcome.RETRYING: (State.DELAYED, True),
    Outcome.SNOOZED: (State.DELAYED, False),
    Outcome.PARKED: (State.DELAYED, False),
    Outcome.INTERRUPTED: (State.WAITING, False),
}


@dataclass
class Job:
    """A job as the model has it."""

    id: str
    state: State
    due: int
    expires: int | None
    epoch: int = 0
    ticket: int = 1
    attempts: int = 0
    crashes: int = 0
    charges: int = 0
    outcomes: list[Outcome] = field(default_factory=list)
    reason: Reason | None = None
    worker: int = 0
    suspect: bool = False
    claimed: int = 0
    asked: bool = False  #: to stop
    archived: bool = False
    sent: bool = False  #: its ticket is confirmed by RabbitMQ

    @property
    def tried(self) -> bool:
        return bool(self.attempts or self.crashes or {Outcome.SNOOZED, Outcome.INTERRUPTED} & {*self.outcomes})

    def to(self, state: State) -> None:
        """Change the state, by a way that ``ledger.states`` allows."""
        assert (self.state, state) in LEGAL, (self.state, state)
        self.state, self.worker, self.suspect = state, 0, False
        if state in FINISHED:
            self.asked = False

    def again(self, state: State, due: int | None = None) -> None:
        """To a state from which it needs another message."""
        self.to(state)
        self.ticket += 1
        self.sent = False
        if due is not None:
            self.due = due


def machine(ledger: LedgerUnderTest, control: Control, clock: Clock) -> type[RuleBasedStateMachine]:
    embedded = ledger.road == "embedded"
    session = ledger.session
    tables = sqlite3.connect(ledger.url.removeprefix("sqlite:///"), isolation_level=None)
    tables.row_factory = sqlite3.Row

    def seen(table: str) -> list[dict[str, Any]]:
        return [dict(row) for row in tables.execute(f"SELECT * FROM {table}")]

    class Jobs(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            ledger._empty()
            self.jobs: dict[str, Job] = {}
            self.beats: dict[int, int] = {}
            self.announced: set[int] = set()
            for _ in range(2):
                self.join()

        # -- the model's own
        def now(self) -> int:
            return clock._now

        def join(self) -> None:
            self.beats[ledger.join()] = self.now()

        def some(self, n: int, *states: State) -> Job | None:
            """One of the jobs in these states, whichever ``n`` names."""
            found = [job for job in self.jobs.values() if job.state in states and not job.archived]
            return found[n % len(found)] if found else None

        def held_by(self, worker: int) -> list[Job]:
            return [job for job in self.jobs.values() if job.worker == worker]

        def give_back(self, job: Job) -> None:
            """It goes round again without having ended; its epoch becomes one that nobody holds."""
            job.epoch += 1
            if job.asked:
                job.to(State.CANCELLED)
            else:
                job.again(State.WAITING)

        def claimed(self, job: Job, claim: Claim, worker: int) -> None:
            assert claim.verdict is Verdict.RUN
            assert (claim.epoch, claim.attempts, claim.crashes) == (job.epoch + 1, job.attempts, job.crashes)
            assert claim.suspect == (job.crashes > 0)
            assert claim.ticket == job.ticket
            job.to(State.ACTIVE)
            job.worker, job.epoch, job.suspect, job.claimed = worker, claim.epoch, claim.suspect, self.now()

        # -- what producers do
        @rule(delay_s=st.sampled_from([0, 0, 5, 3_600]), expires_s=st.sampled_from([None, None, 60, 7_200]))
        def enqueue(self, delay_s: int, expires_s: int | None) -> None:
            new = new_job(delay_ms=delay_s * 1000, expires_ms=None if expires_s is None else expires_s * 1000)
            [answer] = session.enqueue([new])
            due = self.now() + delay_s * SECOND
            self.jobs[new.id] = Job(
                new.id,
                State.DELAYED if delay_s else State.WAITING,
                due,
                None if expires_s is None else due + expires_s * SECOND,
            )
            assert answer.state is self.jobs[new.id].state
            assert session.enqueue([new])[0].duplicate, "the same id again changes nothing"

        @precondition(lambda self: not embedded)
        @rule(n=st.integers(0, 9), late=st.booleans())
        def confirm(self, n: int, late: bool) -> None:
            """RabbitMQ has a message; late: of an earlier ticket."""
            if job := self.some(n, State.WAITING):
                session.mark([(job.id, job.ticket - late)])
                job.sent |= not late

        # -- what workers do
        @rule(which=st.integers(0, 1), n=st.integers(0, 9), suspects=st.integers(0, 1), old=st.booleans())
        def claim(self, which: int, n: int, suspects: int, old: bool) -> None:
            """A message arrives; old: one of an earlier ticket."""
            worker = sorted(self.beats)[which]
            if (job := self.some(n, *State)) is None or (embedded and not old):
                return
            ticket = job.ticket - (1 if old else 0)
            [claim] = session.claim(worker, [Ticket(job.id, ticket, "q")], suspects=suspects)
            if old or job.state not in (State.WAITING, State.ACTIVE):
                assert claim.verdict is Verdict.DROP
            elif job.state is State.ACTIVE:
                assert claim.verdict is (Verdict.RUN if job.worker == worker else Verdict.DROP)
                assert claim.epoch in (0, job.epoch)
            elif job.crashes and not suspects:
                assert (claim.verdict, claim.why) == (Verdict.PARK, "suspect")
                job.again(State.DELAYED)
                self.put_off(job)
            else:
                self.claimed(job, claim, worker)

        def put_off(self, job: Job) -> None:
            """By a second; it stays due since when it was."""
            assert abs(self.ticket_due(job) - self.now() - SECOND) < NEARLY

        @precondition(lambda self: embedded)
        @rule(which=st.integers(0, 1), room=st.integers(1, 3), suspects=st.integers(0, 1))
        def take(self, which: int, room: int, suspects: int) -> None:
            worker = sorted(self.beats)[which]
            waiting = [job for job in self.jobs.values() if job.state is State.WAITING]
            taken = session.take(worker, {"q": room}, suspects=suspects)
            for claim in taken:
                self.claimed(self.jobs[claim.id], claim, worker)
            assert sum(claim.suspect for claim in taken) <= suspects
            parked = [job for job in waiting if job.state is State.WAITING and self.row(job)["state"] == "delayed"]
            assert len(taken) + len(parked) == min(room, len(waiting))
            for job in parked:
                assert job.crashes
                job.again(State.DELAYED)
                self.put_off(job)

        @rule(
            n=st.integers(0, 9),
            outcome=st.sampled_from(sorted(ENDS)),
            delay_s=st.sampled_from([0, 1, 3_600]),
            stranger=st.booleans(),
        )
        def finish(self, n: int, outcome: Outcome, delay_s: int, stranger: bool) -> None:
            if (job := self.some(n, State.ACTIVE)) is None:
                return
            end = Finish(job.id, job.epoch, outcome, delay_ms=delay_s * 1000, reason=Reason.DISCARDED)
            if stranger:
                other = next(worker for worker in self.beats if worker != job.worker)
                assert not session.finish(other, [end])[0].accepted
                assert not session.finish(job.worker, [Finish(job.id, job.epoch - 1, outcome)])[0].accepted
                return
            worker = job.worker
            [answer] = session.finish(worker, [end])
            state, spends = ENDS[outcome]
            if job.asked and state in LIVE:
                outcome, state, spends = Outcome.CANCELLED, State.CANCELLED, False
            job.attempts += spends
            job.outcomes.append(outcome)
            job.reason = Reason.DISCARDED if state is State.FAILED else None
            if state in LIVE:
                due = (
                    None
                    if outcome is Outcome.PARKED
                    else self.now() + (delay_s * SECOND if state is State.DELAYED else 0)
                )
                job.again(state, due)
            else:
                job.to(state)
            assert (answer.accepted, answer.state) == (True, state)
            assert session.finish(worker, [end])[0] == answer, "its answer was lost"

        @rule(n=st.integers(0, 9))
        def release(self, n: int) -> None:
            if job := self.some(n, State.ACTIVE):
                session.release(job.worker, [(job.id, job.epoch - 1)])  # of an earlier claim: nothing
                session.release(job.worker, [(job.id, job.epoch)])
                self.give_back(job)

        @rule(which=st.integers(0, 1), forgets=st.booleans())
        def beat(self, which: int, forgets: bool) -> None:
            worker = sorted(self.beats)[which]
            held = self.held_by(worker)
            named = [] if forgets else [(job.id, job.epoch) for job in held]
            beat = session.beat(worker, named, lease_s=LEASE_S)
            self.beats[worker] = self.now()
            assert beat.alive
            assert beat.cancel == {job.id for job in held if job.asked and not forgets}
            old = [job for job in held if forgets and self.now() - job.claimed > LEASE_S * SECOND]
            assert beat.released == len(old)
            for job in old:
                self.give_back(job)

        @rule(which=st.integers(0, 1))
        def announce(self, which: int) -> None:
            worker = sorted(self.beats)[which]
            session.announce(worker)
            self.announced.add(worker)

        @rule(which=st.integers(0, 1))
        def leave(self, which: int) -> None:
            worker = sorted(self.beats)[which]
            session.leave(worker)
            for job in self.held_by(worker):
                self.give_back(job)
            del self.beats[worker]
            self.join()

        # -- what time, the duties and operators do
        @rule(seconds=st.sampled_from([1, 20, 61, 3_601]))
        def pass_time(self, seconds: int) -> None:
            clock._now += seconds * SECOND

        @rule()
        def promote(self) -> None:
            sent = session.promote(100, resend_after_s=30)
            for job in self.jobs.values():
                if job.state is State.DELAYED and job.id in {due.id for due in sent}:
                    job.to(State.WAITING)
            for due in sent:
                assert (self.jobs[due.id].state, due.ticket) == (State.WAITING, self.jobs[due.id].ticket)
            late = [
                job for job in self.jobs.values() if job.state is State.DELAYED and self.ticket_due(job) <= self.now()
            ]
            assert late == []

        def ticket_due(self, job: Job) -> int:
            [row] = [row for row in seen("tickets") if row["job_id"] == job.id]
            return int(row["due_at"])

        @rule()
        def expire(self) -> None:
            expected = {
                job.id
                for job in self.jobs.values()
                if job.expires is not None
                and job.expires <= self.now()
                and job.state in (State.WAITING, State.DELAYED)
                and not job.tried
            }
            assert set(session.expire(100)) == expected
            left = {row["job_id"]: row["at"] for row in seen("expiries")}
            for job in self.jobs.values():
                if job.expires is not None and job.expires <= self.now():
                    begun = job.state is not State.ACTIVE or job.tried or job.id in expected
                    job.expires = None if begun else left[job.id]
            for id in expected:
                self.jobs[id].to(State.FAILED)
                self.jobs[id].reason = Reason.EXPIRED

        @rule()
        def rescue(self) -> None:
            silent = [worker for worker, at in self.beats.items() if self.now() - at > LEASE_S * SECOND]
            found = session.rescue(LEASE_S)
            assert list(found.workers) == sorted(silent)
            poisoned: set[str] = set()
            for worker in silent:
                held = self.held_by(worker)
                suspects = [job for job in held if job.suspect]
                for job in held:
                    if worker in self.announced:
                        self.give_back(job)
                        continue
                    if job.suspect or not suspects:
                        job.crashes += 1
                    job.charges += job.suspect
                    job.outcomes.append(Outcome.CRASHED)
                    if job.suspect and job.charges >= CHARGES and not job.asked:
                        job.epoch = self.row(job)["epoch"]
                        job.to(State.FAILED)
                        job.reason = Reason.POISON
                        poisoned.add(job.id)
                    else:
                        self.give_back(job)
                        job.due = self.now() if job.state is State.WAITING else job.due
                del self.beats[worker]
                self.join()
            assert set(found.quarantined) == poisoned

        @rule(n=st.integers(0, 9))
        def ask_to_stop(self, n: int) -> None:
            if (job := self.some(n, *State)) is None:
                return
            if job.state in FINISHED:
                with pytest.raises(IllegalTransition):
                    cancel(control, job.id, by="a test")
            elif job.state is State.ACTIVE:
                assert cancel(control, job.id, by="a test") == "requested"
                job.asked = True
            else:
                assert cancel(control, job.id, by="a test") == "cancelled"
                job.to(State.CANCELLED)

        @rule(n=st.integers(0, 9))
        def send_round_again(self, n: int) -> None:
            found = list(self.jobs.values())
            if not found:
                return
            job = found[n % len(found)]
            if job.state in (State.WAITING, State.ACTIVE, State.COMPLETED):
                with pytest.raises(IllegalTransition):
                    retry(control, job.id, by="a test")
                return
            if job.state is not State.DELAYED:
                job.attempts = job.crashes = job.charges = 0
            before = job.due
            retry(control, job.id, by="a test")
            if job.archived:
                row = self.row(job)
                assert row["epoch"] >= job.epoch or not job.outcomes
                job.epoch, job.ticket = row["epoch"], row["ticket"] - 1
                job.archived = False
                job.expires = None
            job.again(State.WAITING, self.now())
            job.reason = None
            if job.expires is not None:
                job.expires += job.due - before

        @rule()
        def retain(self) -> None:
            clock._now += SECOND
            session.retain({}, Keep(0, 0, 0, 0), history_s=86_400 * 365)
            for job in self.jobs.values():
                job.archived |= job.state in FINISHED

        @precondition(lambda self: not embedded)
        @rule()
        def sweep(self) -> None:
            lost = [job for job in self.jobs.values() if job.state is State.WAITING and job.sent]
            assert session.resend() == len(lost) <= RESEND_BATCH
            for job in lost:
                job.again(State.WAITING)

        # -- what must hold
        def row(self, job: Job) -> dict[str, Any]:
            [row] = [row for row in seen("jobs") if row["id"] == job.id]
            return row

        @invariant()
        def nothing_is_lost_and_every_row_is_as_the_model_has_it(self) -> None:
            hot = {row["id"]: row for row in seen("jobs")}
            tried: dict[str, list[str]] = {}
            for row in sorted(seen("attempts"), key=lambda row: row["epoch"]):
                tried.setdefault(row["job_id"], []).append(row["outcome"])
            assert hot.keys() == {job.id for job in self.jobs.values() if not job.archived}
            past = {row["id"]: row["state"] for row in seen("history")}
            assert past == {job.id: job.state for job in self.jobs.values() if job.archived}
            for id, row in hot.items():
                job = self.jobs[id]
                told = [row[name] for name in ("state", "epoch", "ticket", "attempts", "crashes", "charges", "reason")]
                assert told == [job.state, job.epoch, job.ticket, job.attempts, job.crashes, job.charges, job.reason]
                assert abs(row["run_at"] - job.due) < NEARLY
                assert bool(row["cancel_requested"]) == job.asked or job.state in FINISHED, "what has ended was asked"
                assert tried.get(id, []) == job.outcomes

        @invariant()
        def who_runs_is_claimed_and_who_waits_has_a_ticket(self) -> None:
            owned = {row["job_id"]: (row["worker_id"], row["epoch"], bool(row["suspect"])) for row in seen("claims")}
            assert owned == {
                job.id: (job.worker, job.epoch, job.suspect) for job in self.jobs.values() if job.state is State.ACTIVE
            }
            there = {row["job_id"]: (row["ticket"], bool(row["ready"])) for row in seen("tickets")}
            for job in self.jobs.values():
                if job.state is State.DELAYED:
                    assert there[job.id] == (job.ticket, False)
                elif job.state is State.WAITING and not job.sent:
                    assert there[job.id] == (job.ticket, embedded)
                elif embedded:
                    assert job.id not in there
            assert {row["job_id"] for row in seen("expiries")} >= {
                job.id for job in self.jobs.values() if job.expires is not None and job.state in LIVE and not job.tried
            }

        def teardown(self) -> None:
            """Every job can still be brought to its end."""
            clock._now += 2 * 3_600 * SECOND
            for worker in list(self.beats):
                session.leave(worker)
                for job in self.held_by(worker):
                    self.give_back(job)
            last = ledger.join()
            for _ in range(20 * len(self.jobs)):
                session.promote(100, resend_after_s=30)
                live = [row for row in seen("jobs") if row["state"] in LIVE]
                if not live:
                    return
                if embedded:
                    got = session.take(last, {"q": 10})
                else:
                    got = session.claim(last, [Ticket(row["id"], row["ticket"], "q") for row in live])
                running = [claim for claim in got if claim.verdict is Verdict.RUN]
                session.finish(last, [Finish(claim.id, claim.epoch, Outcome.COMPLETED) for claim in running])
                clock._now += 2 * SECOND
            assert not self.jobs, "they do not come to an end"

    return Jobs


@pytest.fixture(params=["embedded", "rabbitmq"])
def run(request: pytest.FixtureRequest, sqlite_url: str) -> Iterator[Callable[[], None]]:
    road: Road = request.param
    clock, control = Clock(), Control(sqlite_url, road)
    with clock.in_place():
        ledger = LedgerUnderTest(sqlite_url, road, synchronous="NORMAL")
        yield lambda: check(machine(ledger, control, clock), steps=25)
        ledger.close()
    control.close()


def test_jobs_are_what_the_model_says_whatever_happens(run: Callable[[], None]) -> None:
    run()

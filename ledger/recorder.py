"""What a process writes: claims, finishes, marks, progress, and what asyncio code sends, each by group commit.

Claims and finishes have a lane (a thread and a connection) each, so that a claim never waits behind
a large finish; marks linger a little, since a job finished meanwhile needs none.
"""

import logging
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from errors import LedgerUnavailable, SchemaMismatch
from failpoints import hit
from ledger.breaker import Calls, Probe, Standing
from ledger.gates import Entering, Entry
from ledger.gcra import Share, Wanted
from ledger.lane import BATCH, Lane
from ledger.ledger import Ledger, Session
from ledger.pen import Pen, enqueue_at_once
from ledger.records import Claim, Due, Enqueued, Finish, Finished, NewJob, Ticket, Verdict, to_send
from ledger.reports import Progress, Reports
from ledger.states import Outcome, Reason
from metrics.catalogue import DROPPED
from metrics.meter import Meter

logger = logging.getLogger(__name__)

Q = TypeVar("Q")
T = TypeVar("T")

MARK_LINGER_S = 0.2
#: A job whose start is no further away keeps its slot until then; others go back to the ledger.
SOON_S = 0.1


@dataclass(slots=True)
class _SendWanted:
    jobs: Sequence[NewJob]
    answer: Callable[[list[Enqueued] | Exception], None]


@dataclass(slots=True)
class _Committed:
    jobs: Sequence[NewJob | Due]


@dataclass(slots=True)
class _ClaimWanted:
    ticket: Ticket
    answer: Callable[[Claim], None]


@dataclass(slots=True)
class _FinishWanted:
    finish: Finish
    answer: Callable[[Finished], None]


@dataclass(slots=True)
class _Release:
    job: str
    epoch: int


@dataclass(slots=True)
class _Question(Generic[Q, T]):
    """Somebody waits for the answer."""

    asked: Q
    answered: threading.Event = field(default_factory=threading.Event)
    reply: T | None = None
    error: Exception | None = None

    def answer(self, reply: T) -> None:
        self.reply = reply
        self.answered.set()


@dataclass(slots=True)
class _Slow:
    shares: Sequence[Share]
    delay_s: float


class Recorder:
    """The writing side of one process.  Threads start at first use; thread-safe.

    A producer uses :meth:`enqueue` and :meth:`mark` only.  A worker sets :attr:`worker` (its id in the
    ledger) before it claims.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._pen = Pen(ledger.session, self.recorded)
        #: Lets jobs travel that are due now; called once per commit.
        self.send: Callable[[list[NewJob | Due]], object] = _stay
        self._lock = threading.Lock()
        self._lanes: dict[str, Lane[Any]] = {}
        self.worker = 0
        self.meter: Meter | None = None  #: of a process with metrics
        #: job id -> epoch: what this process has claimed and not yet finished.
        self.held: dict[str, int] = {}
        self._suspect: str | None = None
        self._reports = Reports()
        os.register_at_fork(after_in_child=self._forked)

    # -- producers
    def enqueue(self, jobs: list[NewJob]) -> list[Enqueued]:
        """Record jobs, all or none, and send those that are due; committed on return.  Raises ``LedgerUnavailable``."""
        return self._pen.enqueue(jobs)

    def enqueue_soon(self, jobs: Sequence[NewJob], answer: Callable[[list[Enqueued] | Exception], None]) -> None:
        """The same for whoever must not wait: ``answer`` is called on the lane's thread.  Never blocks.

        What is handed over together shares a commit.
        """
        self._lane("sends", self._write_sends).put(_SendWanted(jobs, answer), block=False)

    def committed(self, jobs: Sequence[NewJob | Due]) -> None:
        """The transaction in which somebody else recorded these seems to be over: send those that are there.

        Never blocks; what is not sent because it was not there yet, or the ledger is away, is left to the relay.
        """
        lane = self._lane("sends", self._write_sends)
        for start in range(0, len(jobs), BATCH):
            lane.put(_Committed(jobs[start : start + BATCH]), block=False)

    def recorded(self, jobs: Sequence[NewJob], answers: Sequence[Enqueued]) -> None:
        """These were just committed, here or over another session: what is due travels."""
        hit("send.recorded")
        if due := to_send(jobs, answers):
            self.send(due)

    def mark(self, sent: list[tuple[str, int]]) -> None:
        """RabbitMQ confirmed these (job, ticket) pairs.  Never blocks."""
        lane = self._lane("marks", _write_marks, limit=100_000, linger_s=MARK_LINGER_S)
        for pair in sent:
            lane.put(pair, block=False)

    # -- workers
    def claim(self, ticket: Ticket, answer: Callable[[Claim], None]) -> None:
        """Claim one job; ``answer`` is called on the lane's thread.  Never blocks."""
        self._lane("claims", self._write_claims).put(_ClaimWanted(ticket, answer), block=False)

    def took(self, claim: Claim) -> None:
        """A job was claimed on the embedded road."""
        self.held[claim.id] = claim.epoch
        if claim.suspect:
            self._suspect = claim.id

    @property
    def suspects(self) -> int:
        """How many more suspects this process may run at once: one, or none while it runs one."""
        return 0 if self._suspect is not None else 1

    def finish(self, finish: Finish, answer: Callable[[Finished], None]) -> None:
        """Record how an attempt ended; ``answer`` is called on the lane's thread once it is committed.

        Blocks while the lane is full: a slow ledger slows its workers, it loses nothing.
        """
        lane = self._lane("finishes", self._write_finishes)
        if last := self._reports.close(finish.id):
            lane.put(last, block=False)
        lane.put(_FinishWanted(finish, answer))

    def reserve(self, wanted: Wanted) -> float:
        """Reserve a job's start in its rate limits; the seconds until then.  Waits as long as the database is away.

        Raises ``LedgerUnavailable`` when this process stops meanwhile.
        """
        return self._ask(self._lane("limits", self._write_limits), _Question[Wanted, float](wanted))

    def enter(self, entering: Entering) -> Entry:
        """Let a job enter its gates; one that is BLOCKED is not held any more.  Waits and raises as :meth:`reserve`."""
        entry = self._ask(self._lane("limits", self._write_limits), _Question[Entering, Entry](entering))
        if entry is Entry.BLOCKED:
            self.forget(entering.job, entering.epoch)
        return entry

    def slow(self, shares: Sequence[Share], delay_s: float) -> None:
        """Let nothing start in these rate limits for a while; blocks while the lane is full."""
        self._lane("limits", self._write_limits).put(_Slow(shares, delay_s))

    def called(self, calls: Calls) -> Standing:
        """Count calls in their circuit, at once; how it stands then.  Waits and raises as :meth:`reserve`."""
        return self._ask(self._lane("circuits", self._write_circuits), _Question[Calls, Standing](calls))

    def probe(self, probe: Probe) -> Standing:
        """Ask whether a job may probe a half-open circuit.  Waits and raises as :meth:`reserve`."""
        return self._ask(self._lane("circuits", self._write_circuits), _Question[Probe, Standing](probe))

    def release(self, job: str, epoch: int) -> None:
        """Give back a claimed job that never started."""
        self._lane("finishes", self._write_finishes).put(_Release(job, epoch), block=False)

    def progress(self, report: Progress, epoch: int) -> None:
        """Record how far a job is, unless it is not held any more.  Never blocks.

        At most one report a second is written of a job, and always its last, before its finish.
        """
        if self.held.get(report.job) == epoch and (now := self._reports.add(report)):
            self._lane("finishes", self._write_finishes).put(now, block=False)

    def write_progress(self) -> None:
        """Write what was reported over a second ago and has waited since.  To be called about once a second."""
        for report in self._reports.due():
            self._lane("finishes", self._write_finishes).put(report, block=False)

    def flush(self, timeout_s: float = 10.0) -> bool:
        """Wait until everything handed over is committed and answered."""
        return all(lane.flush(timeout_s) for lane in list(self._lanes.values()))

    def flush_sends(self, timeout_s: float) -> bool:
        """Wait until what asyncio code and transactions have handed over is on the road, or left to the relay."""
        lane = self._lanes.get("sends")
        return lane is None or lane.flush(timeout_s)

    def stop(self, timeout_s: float = 10.0) -> bool:
        """Write what is left and end the threads; false when not everything could be written."""
        with self._lock:
            lanes, self._lanes = list(self._lanes.values()), {}
        unfinished = [lane for lane in lanes if not lane.stop(timeout_s)]  # every one is stopped
        self._pen.close()
        return not unfinished

    def _forked(self) -> None:
        """In a child: the parent's threads and what they hold are not ours."""
        self._lock = threading.Lock()
        self._lanes = {}
        self.worker = 0
        self.held = {}
        self._suspect = None
        self._reports = Reports()

    def _ask(self, lane: Lane[Any], question: "_Question[Q, T]") -> T:
        lane.put(question)
        while not question.answered.wait(1.0):
            if lane not in self._lanes.values():
                raise LedgerUnavailable("the process stops; the job goes back")
        if question.error is not None:
            raise question.error
        return question.reply  # type: ignore[return-value]

    def _lane(
        self, name: str, write: Callable[[Session, list[Any]], None], *, limit: int = 10_000, linger_s: float = 0.0
    ) -> Lane[Any]:
        lane = self._lanes.get(name)
        if lane is None:
            with self._lock:
                lane = self._lanes.get(name)
                if lane is None:
                    lane = self._lanes[name] = Lane(
                        name,
                        self._ledger.session,
                        write,
                        spoiled=self._spoiled,
                        limit=limit,
                        linger_s=linger_s,
                        meter=self.meter,
                    )
                    lane.start()
        return lane

    def _write_sends(self, session: Session, rows: list[_SendWanted | _Committed]) -> None:
        wanted = [row for row in rows if isinstance(row, _SendWanted)]
        if wanted:
            self._write_wanted(session, wanted)
        for row in rows:
            if isinstance(row, _Committed):
                self._send_committed(session, row.jobs)

    def _write_wanted(self, session: Session, wanted: list[_SendWanted]) -> None:
        jobs = [job for want in wanted for job in want.jobs]
        try:
            answers = enqueue_at_once(session, jobs)
        except (LedgerUnavailable, SchemaMismatch) as error:  # their senders know what to do, and are waiting
            for want in wanted:
                _tell(want.answer, error)
            return
        try:
            self.recorded(jobs, answers)
        except Exception:
            logger.critical("%d jobs are recorded, but were not sent on; the relay does that", len(jobs), exc_info=True)
        start = 0
        for want in wanted:
            _tell(want.answer, answers[start : start + len(want.jobs)])
            start += len(want.jobs)

    def _send_committed(self, session: Session, jobs: Sequence[NewJob | Due]) -> None:
        hit("transactional.committed")
        try:
            there = session.unsent([_ticket(job) for job in jobs])
            self.send([job for job in jobs if _ticket(job) in there])
        except Exception as error:
            logger.warning("%d jobs of a transaction are left to the relay: %s", len(jobs), error)

    def _write_claims(self, session: Session, wanted: list[_ClaimWanted]) -> None:
        # What was ours before we asked is no answer that was lost; and by the time of the answer it may have ended.
        held = self.held.copy()
        claims = session.claim(self.worker, [w.ticket for w in wanted], suspects=self.suspects)
        if self.meter is not None:
            self.meter.note(
                *(
                    (DROPPED, (want.ticket.queue, claim.why or claim.verdict), 1)
                    for want, claim in zip(wanted, claims, strict=True)
                    if claim.verdict is not Verdict.RUN
                )
            )
        for want, claim in zip(wanted, claims, strict=True):
            if claim.verdict is Verdict.RUN:
                if held.get(claim.id) == claim.epoch:
                    # Its message came twice over one connection loss; the first is still running here.
                    claim = Claim(claim.id, Verdict.DROP, "active")
                else:
                    self.took(claim)
            if not _tell(want.answer, claim) and claim.verdict is Verdict.RUN:
                self.release(claim.id, claim.epoch)  # nobody would ever run it, and we would go on holding it

    def _write_finishes(self, session: Session, rows: list[Any]) -> None:
        wanted = [row for row in rows if type(row) is _FinishWanted]
        if len(wanted) < len(rows):
            released = [(row.job, row.epoch) for row in rows if type(row) is _Release]
            if released:
                session.release(self.worker, released)
                for job, epoch in released:
                    self.forget(job, epoch)
            progress = [row for row in rows if type(row) is Progress]
            if progress:
                session.progress(progress)
        # Last: once an answer is told nothing may fail, or the batch would be written, and told, again.
        if wanted:
            answers = self._finish(session, [w.finish for w in wanted])
            for want, answer in zip(wanted, answers, strict=True):
                self.forget(want.finish.id, want.finish.epoch)
                _tell(want.answer, answer)
            if self.meter is not None:
                self.meter.end()

    def _finish(self, session: Session, finishes: list[Finish]) -> list[Finished]:
        if self.meter is not None:
            self.meter.begin([(finish.id, finish.epoch) for finish in finishes])
        return session.finish(self.worker, finishes)

    def _write_limits(self, session: Session, rows: list[Any]) -> None:
        for row in rows:
            if isinstance(row, _Slow):
                session.slow(row.shares, row.delay_s)
        _answer(rows, Wanted, lambda asked: session.reserve(asked, soon_s=SOON_S))
        _answer(rows, Entering, session.enter)

    def _write_circuits(self, session: Session, rows: list[Any]) -> None:
        _answer(rows, Calls, lambda asked: session.circuits(self.worker, asked))
        _answer(rows, Probe, session.probe)

    def forget(self, job: str, epoch: int) -> None:
        """This claim is not held any more, and nothing is written: it was fenced, or nobody knows how it ended."""
        if self.held.get(job) == epoch:
            self.held.pop(job, None)  # the heartbeat may have been faster
            self._reports.close(job)
            if self._suspect == job:
                self._suspect = None

    def _spoiled(self, session: Session, row: object, error: Exception) -> None:
        """A row the database refuses: the job is kept as a dead letter that says so, without the row's own text."""
        match row:
            case _FinishWanted(finish, answer):
                plain = Finish(
                    finish.id,
                    finish.epoch,
                    Outcome.FAILED,
                    reason=Reason.REFUSED,
                    error_type="LedgerError",
                    error_message=f"the ledger refused the record ({finish.outcome}): {type(error).__name__}",
                    gated=finish.gated,
                )
                try:
                    [answered] = self._finish(session, [plain])
                finally:  # not even that was written: it is given back at a beat, for it is owned and not held
                    self.forget(finish.id, finish.epoch)
                _tell(answer, answered)
                if self.meter is not None:
                    self.meter.end()
            case _ClaimWanted(ticket, answer):
                _tell(answer, Claim(ticket.id, Verdict.DROP, "refused"))
            case _Question():
                row.error = error
                row.answered.set()
            case _SendWanted(_, told):
                _tell(told, error)
            case _Release(job, epoch):
                self.forget(job, epoch)
                logger.error("job %s could not be given back at once, a beat does it: %s", job, error)
            case _:
                logger.error("dropped %r: %s", row, error)


def _answer(rows: Sequence[object], kind: type[Q], ask: Callable[[list[Q]], Sequence[Any]]) -> None:
    """Ask together what the questions of one kind ask."""
    questions = [row for row in rows if isinstance(row, _Question) and isinstance(row.asked, kind)]
    if questions:
        for question, reply in zip(questions, ask([question.asked for question in questions]), strict=True):
            question.answer(reply)


def _tell(answer: Callable[[T], None], value: T) -> bool:
    """What is committed is committed: a failing callback must not make the lane write it again."""
    try:
        answer(value)
        return True
    except Exception:
        logger.critical("the answer %r could not be delivered", value, exc_info=True)
        return False


def _ticket(job: NewJob | Due) -> tuple[str, int]:
    return job.id, job.ticket if isinstance(job, Due) else 1


def _stay(jobs: list[NewJob | Due]) -> None:
    """Whoever only records leaves the sending to the relay."""


def _write_marks(session: Session, sent: list[tuple[str, int]]) -> None:
    session.mark(sent)

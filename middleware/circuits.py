"""Calls of something that is down are put off, over all workers."""

import random
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from dramatiq import Actor, Broker, Middleware
from dramatiq.broker import MessageProxy
from dramatiq.middleware import SkipMessage

from errors import Cancelled, InvalidActor, LedgerError, LedgerUnavailable
from ledger.breaker import Calls, Probe, Rule, Standing
from ledger.ledger import Session
from ledger.recorder import SOON_S, Recorder
from ledger.states import Outcome
from middleware.attempt import JobMessage
from middleware.circuit import Circuit

#: Those that are to probe come when the circuit half-opens; all others so much later, or when it closes.
LEAD_S = 1.0
#: Who comes to probe comes a little late: early, it would be put off again.
LATE_S = 0.05
#: How often what closed circuits had put off is brought back, how many at a time, and over how long they are spread.
RECALL_S = 1.0
RECALLED = 2_000


@dataclass(slots=True)
class _View:
    """What this process knows of a circuit."""

    circuit: Circuit
    rule: Rule
    standing: Standing = field(default_factory=Standing)
    half_open_at: float = 0.0  #: by the monotonic clock
    coming: int = 0  #: jobs of this process that will come to probe, in this term
    succeeded: int = 0  #: calls that nobody has been told of, in this term
    lock: threading.Lock = field(default_factory=threading.Lock)

    def learn(self, standing: Standing) -> None:
        """The ledger's answer, which may be older than what is known."""
        with self.lock:
            if standing.term < self.standing.term:
                return
            if standing.term > self.standing.term:
                self.coming = self.succeeded = 0
            self.standing = standing
            self.half_open_at = time.monotonic() + (standing.open_s or 0.0)

    def succeed(self, term: int, calls: int = 1) -> None:
        with self.lock:
            if term == self.standing.term:
                self.succeeded += calls

    def tell(self, term: int) -> int:
        """What succeeded in this term, to be told the ledger once."""
        with self.lock:
            if term != self.standing.term:
                return 0
            told, self.succeeded = self.succeeded, 0
            return told

    def comes_to_probe(self) -> bool:
        with self.lock:
            self.coming += 1
            return self.coming <= self.rule.probes


class Circuits(Middleware):
    """Puts jobs off while what they call is down, so that an outage spends no attempts.

    Actor option:
      circuit: a :class:`Circuit`, or the name of one.  A name alone means the circuit of that name that another actor
        describes, or one with all defaults.

    A closed circuit costs no statement: what succeeded is counted in the process and written once a second.  A call
    that failed is written at once, and its thread waits for the answer.  So every call that begins after its process
    has heard of the opening is put off: within a second of it (if the ledger answers), or at its next own failure.

    Of the jobs put off, each process sends as many as may probe back when the circuit half-opens, and the others
    later, spread; all come back when it closes.  So a job is put off about once for every time it opens.

    Fails as it stands: while the database is away a closed circuit stays closed, and an open one open, for nobody may
    probe without it; a call that failed waits for it, as its own end does.
    """

    fails_closed = True

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self._views: dict[str, _View] = {}
        self._actors: dict[str, str] = {}
        self._begun: dict[str, tuple[_View, int, bool]] = {}  # by job: its circuit, the term, whether it probes

    @property
    def actor_options(self) -> set[str]:
        return {"circuit"}

    @property
    def used(self) -> Mapping[str, tuple[Circuit, list[str]]]:
        """The circuits of the code, by name, and which actors use them."""
        return {
            name: (view.circuit, sorted(actor for actor, used in self._actors.items() if used == name))
            for name, view in self._views.items()
        }

    def before_declare_actor(self, broker: Broker, actor: Actor[Any, Any]) -> None:
        if (given := actor.options.get("circuit")) is None:
            return
        try:
            circuit = Circuit(given) if isinstance(given, str) else given
        except ValueError as error:
            raise InvalidActor(f"actor {actor.actor_name!r}: {error}") from error
        if not isinstance(circuit, Circuit):
            raise InvalidActor(f"actor {actor.actor_name!r}: circuit is a Circuit(…) or the name of one, got {given!r}")
        known = self._views.get(circuit.name)
        plain = Circuit(circuit.name)
        if known is None or known.circuit == plain:
            self._views[circuit.name] = _View(circuit, circuit.rule)
        elif circuit not in (known.circuit, plain):
            raise InvalidActor(
                f"actor {actor.actor_name!r}: circuit {circuit.name!r} is described differently by another actor; "
                f"describe it once, and write circuit={circuit.name!r} here"
            )
        self._actors[actor.actor_name] = circuit.name

    def look(self, session: Session) -> None:
        """Write what was counted, and hear how the circuits stand.  Once a second, and before the first job."""
        views = [self._views[name] for name in sorted(set(self._actors.values()))]
        if not views:
            return
        terms = [view.standing.term for view in views]
        reports = [
            Calls(view.circuit.name, view.rule, term, view.tell(term)) for view, term in zip(views, terms, strict=True)
        ]
        try:
            standings = session.circuits(self.recorder.worker, reports)
        except LedgerError:
            for view, report in zip(views, reports, strict=True):
                view.succeed(report.term, report.calls)
            raise
        for view, standing in zip(views, standings, strict=True):
            view.learn(standing)

    def before_process_message(self, broker: Broker, message: MessageProxy) -> None:
        name = self._actors.get(message.actor_name)
        if name is None or not isinstance(message, JobMessage):
            return
        view = self._views[name]
        standing, probes = view.standing, False
        if standing.open_s is not None:
            standing = self._half_open(view, message)
            probes = standing.admitted
        self._begun[message.claim.id] = (view, standing.term, probes)

    def after_process_message(
        self, broker: Broker, message: MessageProxy, *, result: Any = None, exception: BaseException | None = None
    ) -> None:
        if not isinstance(message, JobMessage) or (begun := self._begun.pop(message.claim.id, None)) is None:
            return
        view, term, probes = begun
        if exception is None and not probes:
            view.succeed(term)
            return
        if exception is not None and (not view.circuit.fails(exception) or isinstance(exception.__cause__, Cancelled)):
            return
        told = 0 if probes else view.tell(term)
        error, failures = ("", 0) if exception is None else (type(exception).__name__, 1)
        with suppress(LedgerUnavailable):  # the process stops; nobody begins another call here
            view.learn(self.recorder.called(Calls(view.circuit.name, view.rule, term, told + 1, failures, error)))

    def after_skip_message(self, broker: Broker, message: MessageProxy) -> None:
        if isinstance(message, JobMessage):
            self._begun.pop(message.claim.id, None)

    def _half_open(self, view: _View, message: JobMessage) -> Standing:
        """How the circuit stands when this job may run; raises ``SkipMessage`` when it may not."""
        wait_s = view.half_open_at - time.monotonic()
        if wait_s > SOON_S:
            self._put_off(view, message, wait_s)
        time.sleep(max(0.0, wait_s))
        standing = self.recorder.probe(Probe(view.circuit.name, view.rule, message.claim.id, message.claim.epoch))
        view.learn(standing)
        if standing.open_s is not None and not standing.admitted:
            self._put_off(view, message, standing.open_s)
        return standing

    def _put_off(self, view: _View, message: JobMessage, wait_s: float) -> None:
        if wait_s > 0 and view.comes_to_probe():
            later_s = wait_s + LATE_S
        else:
            later_s = wait_s + LEAD_S + random.uniform(0, view.standing.length_s)
        message.end(Outcome.PARKED, delay_ms=round(later_s * 1000))
        assert message.ending is not None
        message.ending.circuit = view.circuit.name
        raise SkipMessage(f"circuit {view.circuit.name} is open; it may be tried in {wait_s:.1f} s")

"""Counts what becomes of jobs, for Prometheus."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import dramatiq
from dramatiq import Middleware, Worker
from dramatiq.message import Message

from ledger.events import Happened
from ledger.recorder import Recorder
from ledger.records import Claim, Due, Finish, Finished, Rescue
from ledger.states import RAN, Outcome, Reason, State
from ledger.ticks import TickOutcome
from metrics.catalogue import (
    BUSY,
    CONFIRM,
    CRASHES,
    DEAD,
    DURATION,
    JOBS,
    LATENESS,
    LIMITED,
    MESSAGES,
    OTHER,
    REFUSED,
    RELAYED,
    RESCUED,
    THREADS,
    TICKS,
    WAIT,
)
from metrics.meter import Change
from middleware.counting import Counting
from rabbitmq.publisher import Stats
from settings import Settings


class Metering(Middleware):
    """Has no options.  Fails open: no job is kept from anything by its being counted.

    An attempt is counted once its end is committed, in the same change that says that it is no longer about to be:
    so the counts of a host are what its workers committed, whichever of them is killed, and wherever.

    Parameters:
      known: the actors of the code; jobs of others count together.
    """

    def __init__(self, settings: Settings, recorder: Recorder, known: Collection[str]) -> None:
        self.recorder = recorder
        self.known = known
        self.counting = Counting(settings)
        self.meter = self.counting.meter
        self._threads = 0
        self.stats: Callable[[], Stats] | None = None  #: the publisher's

    def before_worker_boot(self, broker: dramatiq.Broker, worker: Worker) -> None:
        self._threads = worker.worker_threads
        self.counting.start("worker")

    def after_worker_shutdown(self, broker: dramatiq.Broker, worker: Worker) -> None:
        self.counting.stop()

    def look(self) -> None:
        """Once a second, while a worker lives."""
        if self.stats is not None:
            stats = self.stats()
            sent = {"confirmed": stats.sent, "returned": stats.returned, "refused": stats.nacked}
            self.meter.totals(MESSAGES, {**sent, "unconfirmed": stats.expired + stats.lost, "not_sent": stats.dropped})
        self.meter.count((BUSY, (), len(self.recorder.held)), (THREADS, (), self._threads))

    # -- what happens
    def ended(
        self, claim: Claim, message: Message[Any] | None, finish: Finish, answer: Finished, ran: tuple[float, float]
    ) -> None:
        """The end of an attempt is committed.  For the recorder's thread.

        Parameters:
          ran: when it began and ended, by the monotonic clock; zeros when it did not.
        """
        job_type = self._type(message.actor_name if message is not None else "")
        if not answer.accepted:
            self.meter.later((REFUSED, (claim.queue,), 1))
            return
        status = _status(finish, answer)
        began, over = ran
        changes: list[Change] = [(JOBS, (job_type, claim.queue, status), 1)]
        if over and status in RAN:
            changes.append((DURATION, (job_type, claim.queue, status), over - began))
            if claim.due_at is not None:
                changes.append((WAIT, (job_type, claim.queue), max(0.0, began - claim.due_since)))
        if status is Outcome.FAILED:
            changes.append((DEAD, (claim.queue, finish.reason or Reason.RETRIES_EXHAUSTED), 1))
        self.meter.later(*changes)

    def blocked(self, claim: Claim, job_type: str) -> None:
        """A job found a gate full, before it ran."""
        self.meter.count((JOBS, (self._type(job_type), claim.queue, "blocked"), 1))

    def waits(self, queue: str, wait_s: float) -> None:
        """A job has to wait so long for a rate limit."""
        self.meter.note((LIMITED, (queue,), wait_s))

    def confirmed(self, seconds: Sequence[float]) -> None:
        """RabbitMQ has confirmed messages, so long after they were sent."""
        self.meter.note(*((CONFIRM, (), each) for each in seconds))

    def relayed(self, due: Sequence[Due]) -> None:
        self.meter.note(*((RELAYED, (), one.late_s) for one in due))

    def found(self, happened: Happened, dead: Mapping[str, Mapping[str, Any]]) -> None:
        """A duty has found these jobs dead."""
        self.meter.count(*((DEAD, (known["queue"], known["reason"] or happened), 1) for known in dead.values()))

    def ticked(self, outcome: str | None, late_s: float) -> None:
        """A tick of a schedule was decided, so long after it was due; None: its schedule was changed meanwhile."""
        late: list[Change] = [(LATENESS, (), late_s)] if outcome == TickOutcome.SENT else []
        self.meter.count((TICKS, (outcome or "changed",), 1), *late)

    def rescued(self, rescue: Rescue) -> None:
        crashed = rescue.returned + len(rescue.quarantined) + rescue.cancelled
        self.meter.count((CRASHES, (), crashed), (RESCUED, (), len(rescue.workers)))

    def _type(self, actor: str) -> str:
        return actor if actor in self.known else OTHER


def _status(finish: Finish, answer: Finished) -> Outcome:
    """How the ledger has it: a cancel that was asked for meanwhile is folded in, what it refused has failed."""
    if answer.state is State.CANCELLED and finish.outcome not in (Outcome.COMPLETED, Outcome.FAILED, Outcome.SKIPPED):
        return Outcome.CANCELLED
    if answer.state is State.FAILED and finish.outcome in (Outcome.COMPLETED, Outcome.SKIPPED):
        return Outcome.FAILED
    return finish.outcome

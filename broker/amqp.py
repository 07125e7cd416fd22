"""The RabbitMQ road: tickets travel as messages, and are claimed when they arrive."""

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from broker.adoption import Adoption, Foreign, Receive, letter_id
from broker.desk import Desk
from broker.intake import Intake
from broker.letters import letter, of_buried
from broker.road import Intakes
from broker.work import WorkQueue
from failpoints import hit
from ledger.ledger import Ledger
from ledger.recorder import Recorder
from ledger.records import Buried, Claim, Due, Finish, NewJob, Ticket, Verdict
from ledger.sealing import masked
from ledger.states import Reason
from ledger.text import all_ids
from rabbitmq.consumer import Consumers, Delivery
from rabbitmq.publisher import Parcel, Publisher

logger = logging.getLogger(__name__)


class AmqpRoad(Intakes):
    """One connection for publishing, one for consuming, each with a thread of its own.

    Nothing here waits for RabbitMQ: while it is away, sends are left to the relay and deliveries pause.
    """

    def __init__(
        self,
        publisher: Callable[[Callable[[list[tuple[str, int]]], None]], Publisher],
        consumers: Callable[[Callable[[Delivery], None]], Consumers],
        ledger: Ledger,
        recorder: Recorder,
        desk: Callable[[], Desk],
        slots: Callable[[str], int],
        on_found_paused: Callable[[], None],
        receive: Receive,
    ) -> None:
        super().__init__(recorder, desk, slots)
        self.publisher = publisher(self._sent)
        self._make_consumers = consumers
        self.consumers: Consumers | None = None
        self.on_found_paused = on_found_paused
        self.adoption = Adoption(ledger, receive)
        self._paused: frozenset[str] = frozenset()

    # -- sending
    def send(self, jobs: Sequence[NewJob | Due]) -> None:
        self.recorder.mark([])  # its thread: none can be started when the confirm comes at the process's end
        now = int(time.time())
        self.publisher.publish([_parcel(job, now) for job in jobs])

    def ready(self) -> bool:
        return self.publisher.ready

    def _sent(self, pairs: list[tuple[str, int]]) -> None:
        hit("publish.confirmed")
        self.recorder.mark([pair for pair in pairs if pair[1]])

    # -- bringing in
    def start(self, work: WorkQueue) -> None:
        self._work = work
        self.consumers = self._make_consumers(self._arrived)

    def pause(self, queues: frozenset[str]) -> None:
        if self.consumers is None:
            return  # not started yet; told again at the next beat
        with self._lock:
            resumed, paused, self._paused = self._paused - queues, queues - self._paused, queues
        for queue in resumed & self.intakes.keys():
            self._go_on(self.intakes[queue])
        for queue in paused & self.intakes.keys():
            self._hold(queue)

    def stop(self) -> None:
        for queue, intake in self.intakes.items():
            intake.closing = True
            if self.consumers is not None:
                self.consumers.pause(queue)
            for delivery in intake.stop():
                delivery.reject()
        self.adoption.stop()

    def flush(self, timeout_s: float) -> bool:
        return self.publisher.flush(timeout_s)

    def close(self) -> None:
        self.stop()
        self.publisher.flush(5.0)
        if self.consumers is not None:
            self.consumers.stop()
        self.publisher.close()

    def _begin(self, intake: Intake) -> None:
        assert self.consumers is not None, "start() first"
        super()._begin(intake)
        self.consumers.open(intake.queue, prefetch=intake.prefetch)
        if intake.queue in self._paused or intake.quiet:
            self._hold(intake.queue)

    def _on_quiet(self, intake: Intake) -> None:
        if self.consumers is None:
            return
        if intake.quiet:
            self._hold(intake.queue)
        else:
            self.consumers.set_prefetch(intake.queue, intake.prefetch)
            self._go_on(intake)

    def _go_on(self, intake: Intake) -> None:
        assert self.consumers is not None
        if intake.queue not in self._paused and intake.prefetch:  # else it rests, and is told when that is over
            self.consumers.resume(intake.queue)

    def _hold(self, queue: str) -> None:
        """Stop consuming a queue, and put back what has not been claimed: once, since nobody consumes it here then."""
        assert self.consumers is not None
        self.consumers.pause(queue)
        for delivery in self.intakes[queue].drain():
            delivery.reject()

    def _arrived(self, delivery: Delivery) -> None:
        """On the I/O thread: must be quick."""
        intake = self.intakes.get(delivery.queue)
        if intake is None or intake.closing or intake.quiet:
            delivery.reject()
        elif intake.reserve(delivery, delivery.priority or 0):
            self._claim(intake, delivery)

    def _on_room(self, intake: Intake, delivery: Any) -> None:
        if delivery is not None:
            self._claim(intake, delivery)

    def _on_pace(self, intake: Intake) -> None:
        assert self.consumers is not None, "start() first"
        if not intake.prefetch:
            if intake.queue in self.intakes:  # else it is closed before it was begun
                self._hold(intake.queue)
            return
        self.consumers.set_prefetch(intake.queue, intake.prefetch)
        self._go_on(intake)

    def _claim(self, intake: Intake, delivery: Delivery) -> None:
        job, number = delivery.headers.get("hareline-job"), delivery.headers.get("hareline-ticket")
        if job is None:
            self._adopt(intake, delivery)
        elif isinstance(job, str) and all_ids([job]) and type(number) is int and 0 <= number < 2**31:
            ticket = Ticket(job, number, intake.queue)
            self.recorder.claim(ticket, lambda claim: self._claimed(intake, delivery, claim, delivery.body))
        else:
            error = f"its headers name job {job!r}, ticket {number!r}, which no job can have"
            self._bury(intake, delivery, Reason.MALFORMED, letter_id(intake.queue, delivery.body, error), error)

    def _claimed(self, intake: Intake, delivery: Delivery, claim: Claim, body: bytes) -> None:
        """On the recorder's claims thread."""
        match claim.verdict:
            case Verdict.RUN:
                self.desk().admit(claim, body, intake, done=delivery.ack)
            case Verdict.GONE:
                error = "its job is not in the ledger: finished and pruned long ago, or of another ledger; never run"
                self._bury(intake, delivery, Reason.UNKNOWN_ORIGIN, claim.id, error)
            case _:
                try:
                    if claim.why == "paused":
                        self._found_paused(intake.queue)
                finally:
                    delivery.ack()
                    intake.vacate()

    def _found_paused(self, queue: str) -> None:
        with self._lock:
            known = queue in self._paused
            self._paused |= {queue}
        self._hold(queue)
        if not known:
            self.on_found_paused()

    # -- messages of others
    def _adopt(self, intake: Intake, delivery: Delivery) -> None:
        def adopted(job: NewJob) -> None:
            ticket = Ticket(job.id, 1, intake.queue)
            self.recorder.claim(ticket, lambda claim: self._claimed(intake, delivery, claim, job.body))

        self._foreign(intake, delivery, adopted, None)

    def _bury(self, intake: Intake, delivery: Delivery, reason: Reason, job: str, error: str) -> None:
        buried = Buried(job, delivery.message_id or job, intake.queue, "", delivery.body, reason, error)
        self._foreign(intake, delivery, _never, buried)

    def _foreign(
        self, intake: Intake, delivery: Delivery, adopted: Callable[[NewJob], None], buried: Buried | None
    ) -> None:
        def settled(letter: Buried | None) -> None:
            if letter is not None:
                self.publisher.publish([of_buried(letter, int(time.time()))])
            delivery.ack()
            intake.vacate()

        priority = min(5, max(1, 6 - delivery.priority)) if delivery.priority is not None else 3
        foreign = Foreign(
            intake.queue,
            delivery.message_id,
            delivery.body,
            priority,
            adopted,
            settled,
            buried,
            delivery.user,
            delivery.headers,
        )
        try:
            self.adoption.put(foreign)
        except Exception:  # its thread cannot be started
            delivery.reject()
            intake.vacate()
            raise

    def project(self, claim: Claim, message: Any, body: bytes, finish: Finish) -> None:
        """A job became a dead letter: show it in its .XQ."""
        error = f"{finish.error_type}: {masked(finish.error_message or '')}"[:1000] if finish.error_type else None
        self.publisher.publish(
            [
                letter(
                    job=claim.id,
                    queue=claim.queue,
                    actor=message.actor_name if message is not None else "",
                    message_id=message.message_id if message is not None else claim.id,
                    body=body,
                    priority=1,
                    timestamp=int(time.time()),
                    headers={"reason": str(finish.reason), "error": error, "attempts": claim.attempts + 1},
                )
            ]
        )


def _parcel(job: NewJob | Due, now: int) -> Parcel:
    return Parcel(
        queue=job.queue,
        body=job.body,
        job=job.id,
        ticket=job.ticket if isinstance(job, Due) else 1,
        message_id=job.message_id,
        type=job.actor,
        priority=6 - job.priority,
        timestamp=now,
    )


def _never(job: NewJob) -> None:
    raise AssertionError("a buried message is never adopted")

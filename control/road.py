"""RabbitMQ as people are shown it: what the last look said, how old it is, and whether the ledger agrees."""

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from control import agreement
from control.agreement import Comparison
from errors import HarelineError
from ledger.queries import Queries
from ledger.scope import EVERYTHING, Scope
from rabbitmq.topology import DEAD_LETTERS
from rabbitmq.watch import Seen, Watch
from settings import Settings

log = logging.getLogger(__name__)

#: At least so long between two comparisons, in seconds, and so many times as long as one takes.
COMPARE_EVERY_S, COMPARE_SHARE = 30.0, 20


@dataclass(frozen=True, slots=True)
class QueueRoad:
    """One queue in RabbitMQ.  What is not known now is null, and never 0."""

    name: str
    known: bool  #: what is here is of the last look, and that was not long ago
    exists: bool | None
    ready: int | None
    unacknowledged: int | None
    consumers: int | None
    published: float | None  #: messages per second, as are the next two
    delivered: float | None
    acknowledged: float | None
    as_of: datetime | None  #: when it was, or was last, known
    age_s: float | None
    source: str  #: management, amqp, or empty
    why: str  #: why something is not known
    link: str | None  #: in RabbitMQ's own management UI
    faults: tuple[str, ...] = ()  #: how it differs from what the topology has

    @property
    def words(self) -> str:
        """It in one line: what is not known is said to be unknown."""
        if not self.known:
            return f"unknown, as of {self.as_of:%Y-%m-%d %H:%M:%S} UTC" if self.as_of else "unknown"
        if not self.exists:
            return "not there yet"
        counts = ((self.ready, "ready"), (self.unacknowledged, "in workers' hands"), (self.consumers, "consumers"))
        return ", ".join(f"{'unknown' if count is None else count} {what}" for count, what in counts)


@dataclass(frozen=True, slots=True)
class RoadState:
    """RabbitMQ as a whole."""

    known: bool
    as_of: datetime | None
    age_s: float | None
    source: str
    version: str | None
    cluster: str | None
    alarms: tuple[str, ...] | None  #: null: not known
    blocked: int | None  #: connections that may not publish; null: not known
    why: str
    link: str | None
    faults: Mapping[str, tuple[str, ...]]  #: by queue
    disagreements: tuple[str, ...]  #: between the ledger and RabbitMQ, in words

    @property
    def trouble(self) -> str:
        """What is wrong, in words; empty when nothing is known to be."""
        if not self.known:
            return f"unknown: {self.why}"
        found = [*(self.alarms or ()), *self.disagreements]
        if self.blocked:
            found.append(f"{self.blocked} connections may not publish")
        found += [f"queue {name}: {'; '.join(words)}" for name, words in self.faults.items()]
        return "; ".join(found)


class Road:
    """One watch for the process.  Answers at once, from the last look; thread-safe.  Creating one does no I/O.

    Parameters:
      queues: the names of those that actors are on.
    """

    def __init__(
        self, settings: Settings, broker_url: str, queries: Queries, queues: Callable[[], Sequence[str]]
    ) -> None:
        self._settings = settings
        self._queries = queries
        self._work_queues = queues
        self._compare_at = 0.0
        self._suspects: dict[str, Comparison] = {}
        self._disagreements: tuple[Comparison, ...] = ()
        self._watch = Watch(
            broker_url, settings.rabbitmq_management_url, names=self._names, then=self._compare_now_and_then
        )

    def start(self) -> None:
        """Begin to look.  Idempotent; returns at once."""
        self._watch.start()

    def stop(self) -> None:
        """Look no more.  Idempotent."""
        self._watch.stop()

    def look(self) -> None:
        """Look now, on this thread."""
        self._watch.look()

    def wait(self, timeout_s: float) -> bool:
        """Wait for the first look to end; whether it did."""
        return self._watch.wait(timeout_s)

    def queue(self, name: str) -> QueueRoad:
        return self._queue(name, self._watch.seen)

    def queues(self, names: Iterable[str]) -> list[QueueRoad]:
        """These, as of one look."""
        seen = self._watch.seen
        return [self._queue(name, seen) for name in names]

    def link(self, queue: str | None = None) -> str | None:
        """Where RabbitMQ's management UI shows it; None where that is is not known."""
        management = self._watch.management
        return None if management is None else management.link(queue)

    def state(self, scope: Scope = EVERYTHING) -> RoadState:
        """As a whole; of queues, those of a scope."""
        seen = self._watch.seen
        reading = seen.reading if seen.known else None
        faults = agreement.faults(reading, self._work_queues(), self._settings.queue_type) if reading else {}
        return RoadState(
            known=seen.known,
            as_of=seen.as_of,
            age_s=seen.age_s,
            source=reading.source if reading else "",
            version=reading.version if reading else None,
            cluster=reading.cluster if reading else None,
            alarms=reading.alarms if reading else None,
            blocked=reading.blocked if reading else None,
            why=seen.why,
            link=self.link(),
            faults={
                name: tuple(words) for name, words in faults.items() if scope.admits(name.removesuffix(DEAD_LETTERS))
            },
            disagreements=tuple(
                f"queue {x.queue}: {x.words}" for x in self._disagreements if reading and scope.admits(x.queue)
            ),
        )

    def _queue(self, name: str, seen: Seen) -> QueueRoad:
        found = seen.queue(name)
        why = seen.why
        if seen.known and found is None:
            why = "RabbitMQ has no such queue yet; it is declared when it is first used"
        elif found is not None and found.messages is None and not why:
            why = "RabbitMQ has no statistics of it yet"
        faults: list[str] = []
        if found is not None and seen.reading is not None:
            work = name.removesuffix(DEAD_LETTERS)
            faults = agreement.faults(seen.reading, [work], self._settings.queue_type).get(name, [])
        return QueueRoad(
            name=name,
            known=seen.known,
            exists=(found is not None) if seen.known else None,
            ready=found.ready if found else None,
            unacknowledged=found.unacknowledged if found else None,
            consumers=found.consumers if found else None,
            published=found.published if found else None,
            delivered=found.delivered if found else None,
            acknowledged=found.acknowledged if found else None,
            as_of=seen.as_of,
            age_s=seen.age_s,
            source=seen.reading.source if seen.known and seen.reading else "",
            why=why,
            link=self.link(name),
            faults=tuple(faults),
        )

    def _names(self) -> list[str]:
        return [name for queue in self._work_queues() for name in (queue, queue + DEAD_LETTERS)]

    def compare(self) -> None:
        """Compare the ledger with the last look.

        What two comparisons in a row have found is told: what is on its way at one of them is not at the next.
        """
        seen = self._watch.seen
        if not seen.known or seen.reading is None:
            return
        looks = [self._queries.in_flight(self._settings.resend_after_s)]
        found = {x.queue: x for x in agreement.compare(looks, seen.reading, self._work_queues())}
        again = [x for x in found.values() if x.verdict in ("missing", "more") and self._was(x)]
        self._suspects, self._disagreements = found, tuple(again)

    def _compare_now_and_then(self) -> None:
        """After a look; it takes a count of every row of the hot table."""
        began = time.monotonic()
        if began < self._compare_at:
            return
        try:
            self.compare()
        except HarelineError as error:
            log.warning("the ledger and RabbitMQ were not compared: %s", error)
        ended = time.monotonic()
        self._compare_at = ended + max(COMPARE_EVERY_S, COMPARE_SHARE * (ended - began))

    def _was(self, found: Comparison) -> bool:
        before = self._suspects.get(found.queue)
        return before is not None and before.verdict == found.verdict

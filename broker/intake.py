"""The way of claimed jobs of one queue into this process: as many as it has slots for."""

import heapq
import itertools
import threading
from collections.abc import Callable, Iterable
from typing import Any, Self

from dramatiq.broker import Consumer, MessageProxy
from dramatiq.logging import get_logger

from broker.work import WorkQueue
from middleware.attempt import JobMessage


class Intake(Consumer):
    """What Dramatiq consumes; it never fails, hides reconnects, and acknowledges nothing by itself.

    Jobs do not pass through Dramatiq's consumer thread, which only waits here: they go to the worker threads directly.

    A slot is taken before a job is claimed and given back when its actor has ended, so no more
    than ``slots`` jobs of the queue run in this process.  What arrives while all are taken is held back, and
    goes on by priority.
    """

    def __init__(
        self,
        queue: str,
        slots: int,
        timeout_s: float,
        work: WorkQueue,
        *,
        begin: Callable[["Intake"], None],
        on_room: Callable[["Intake", Any], None],
        release: Callable[[str, int], None],
        forget: Callable[[str, int], None],
    ) -> None:
        self.queue = queue
        self.slots = slots
        self.timeout_s = timeout_s
        self.closing = False
        self.logger = get_logger(__name__, type(self))
        self._begin = begin
        self._on_room = on_room
        self._release = release
        self._forget = forget
        self._lock = threading.Lock()
        self._busy = 0
        self._held: list[tuple[int, int, Any]] = []  # a heap
        self._arrivals = itertools.count()
        self._work = work
        self._closed = threading.Event()

    # -- for the road
    def reserve(self, arrival: Any = None, priority: int = 0) -> bool:
        """Take a slot, or hold the arrival back until there is one; of those held back the highest goes first."""
        with self._lock:
            if self._busy < self.slots and not self.closing:
                self._busy += 1
                return True
            if arrival is not None:
                heapq.heappush(self._held, (-priority, next(self._arrivals), arrival))
            return False

    @property
    def room(self) -> int:
        """How many slots are free."""
        return 0 if self.closing else self.slots - self._busy

    def vacate(self) -> None:
        """Give a slot back, or pass it on to what was held back."""
        with self._lock:
            arrival = heapq.heappop(self._held)[2] if self._held and not self.closing else None
            if arrival is None:
                self._busy -= 1
        self._on_room(self, arrival)

    def admit(self, message: JobMessage) -> None:
        """A claimed job, for the next free worker thread."""
        if self.closing:
            self._give_back(message)
        else:
            self._work.put(message)

    def drain(self) -> list[Any]:
        """What was held back, for the road to return.  Nothing is admitted from now on when closing."""
        with self._lock:
            held = [arrival for _, _, arrival in sorted(self._held)]
            self._held.clear()
        return held

    def stop(self) -> list[Any]:
        """Admit nothing more: what is claimed from now on goes back to the ledger.  Returns what was held back."""
        self.closing = True
        return self.drain()

    # -- for Dramatiq
    def __iter__(self) -> Self:
        """Only now may jobs come: Dramatiq has noted whom a thread that ends one has to tell."""
        self._begin(self)
        return self

    def __next__(self) -> None:
        self._closed.wait(self.timeout_s)

    def ack(self, message: MessageProxy) -> None:
        """The actor has ended.  The message is acknowledged later, when the ledger has committed how."""
        if isinstance(message, JobMessage) and not message.submitted:
            self.logger.critical(
                "How job %s ended was not recorded; it is given back within a lease, and runs again.", message.claim.id
            )
            self._forget(message.claim.id, message.claim.epoch)
            message.settle(message, None)
        self.vacate()

    nack = ack

    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        """Claimed jobs that never started: back to the ledger."""
        for message in messages:
            self._give_back(message)

    def close(self) -> None:
        self._closed.set()
        for message in self.stop():
            self.logger.debug("Left to the road: %r.", message)

    def _give_back(self, message: MessageProxy) -> None:
        if isinstance(message, JobMessage):
            self._release(message.claim.id, message.claim.epoch)
            message.settle(message, None)

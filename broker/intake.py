"""The way of claimed jobs of one queue into this process: as many as it has slots for."""

import heapq
import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Self

from dramatiq.broker import Consumer, MessageProxy
from dramatiq.logging import get_logger

from broker.work import WorkQueue
from middleware.attempt import JobMessage

#: Jobs that take less than this on average are claimed ahead: claiming one takes about as long as running it.
SHORT_S = 0.03
#: Nothing waits longer than this in a process whose slots are all taken: another one may have a free slot.
PATIENCE_S = 0.5
_WEIGHT = 1 / 16  # of the newest job in the average


class Intake(Consumer):
    """What Dramatiq consumes; it never fails, hides reconnects, and acknowledges nothing by itself.

    Jobs do not pass through Dramatiq's consumer thread, which only waits here: they go to the worker threads directly.

    No more than ``slots`` jobs of the queue run in this process.  At first a job is claimed for a free slot only, and
    RabbitMQ keeps the rest for whoever has one.  While jobs are short, as many again are claimed ahead, to begin
    the moment a slot is free.  What arrives while nothing can be claimed is held back, and goes on by priority.
    Whatever has waited too long in either place is given back, and nothing more taken until a slot is free.

    Parameters:
      on_room: told that one more job may be claimed; with the arrival that may be, if one was held back.
      on_pace: told that :attr:`prefetch` and :attr:`room` have changed.
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
        on_pace: Callable[["Intake"], None],
        release: Callable[[str, int], None],
        forget: Callable[[str, int], None],
    ) -> None:
        self.queue = queue
        self.slots = slots
        self.timeout_s = timeout_s
        self.closing = False
        self.quiet = False  #: nothing is to start, until told otherwise
        self.logger = get_logger(__name__, type(self))
        self._begin = begin
        self._on_room = on_room
        self._on_pace = on_pace
        self._release = release
        self._forget = forget
        self._lock = threading.Lock()
        self._busy = 0  # claims asked for, claimed and running
        self._running = 0
        self._ahead = 0
        self._resting = False
        self._mean_s = 1.0
        self._next: deque[JobMessage] = deque()  # claimed ahead
        self._held: list[tuple[int, int, Any, float]] = []  # a heap
        self._arrivals = itertools.count()
        self._work = work
        self._closed = threading.Event()

    # -- for the road
    def reserve(self, arrival: Any = None, priority: int = 0) -> bool:
        """Take room for a job, or hold the arrival back until there is some; the highest goes first."""
        with self._lock:
            if self._free:
                self._busy += 1
                return True
            if arrival is not None:
                heapq.heappush(self._held, (-priority, next(self._arrivals), arrival, time.monotonic()))
            return False

    @property
    def room(self) -> int:
        """How many jobs may be claimed now."""
        return max(0, self.slots + self._ahead - self._busy) if self._open else 0

    @property
    def running(self) -> int:
        """How many jobs of the queue run in this process."""
        return self._running

    @property
    def _open(self) -> bool:
        return not self.closing and not self.quiet

    @property
    def _free(self) -> bool:
        return self._open and self._busy < self.slots + self._ahead

    @property
    def prefetch(self) -> int:
        """How many messages RabbitMQ may entrust to us: those of the running jobs, enough never to wait, or none."""
        return 0 if self._resting or not self._open else 4 * self.slots if self._ahead else self.slots

    def vacate(self) -> None:
        """Give room back, or pass it on to what was held back."""
        with self._lock:
            fits = self._busy <= self.slots + self._ahead  # not when the pace has just slowed down
            arrival = heapq.heappop(self._held)[2] if fits and self._held and self._open else None
            if arrival is None:
                self._busy -= 1
            rested, self._resting = self._resting, False
        if rested:
            self._on_pace(self)
        self._on_room(self, arrival)

    def admit(self, message: JobMessage) -> None:
        """A claimed job, for the next free slot."""
        message.since = time.monotonic()
        with self._lock:
            if not self._open:
                starts = False
            elif starts := self._running < self.slots:
                self._running += 1
            else:
                self._next.append(message)
                return
        if starts:
            self._work.put(message)
        else:
            self._give_back(message)
            self.vacate()

    def drain(self) -> list[Any]:
        """What was held back, for the road to return."""
        with self._lock:
            held = [arrival for _, _, arrival, _ in sorted(self._held)]
            self._held.clear()
        return held

    def rest(self, quiet: bool) -> None:
        """Start nothing, or go on.  What is claimed and has not started goes back to the ledger."""
        with self._lock:
            self.quiet, self._resting = quiet, False
        if quiet:
            self._return_ahead()

    def resize(self, slots: int) -> None:
        """From now on so many may run at once; what runs beyond that goes on.  There must be threads for them."""
        now = time.monotonic()
        with self._lock:
            if slots == self.slots:
                return
            self.slots, self._ahead = slots, slots if self._ahead else 0
            self._resting = self._resting and not self._free
            starting = [self._next.popleft() for _ in range(min(len(self._next), max(0, slots - self._running)))]
            self._running += len(starting)
            arrivals = []
            while self._held and self._free:
                self._busy += 1
                arrivals.append(heapq.heappop(self._held)[2])
        for message in starting:
            message.since = now
            self._work.put(message)
        self._on_pace(self)
        for arrival in arrivals:
            self._on_room(self, arrival)

    def stop(self) -> list[Any]:
        """Admit nothing more: what is claimed goes back to the ledger.  Returns what was held back."""
        self.closing = True
        self._return_ahead()
        return self.drain()

    # -- for Dramatiq
    def __iter__(self) -> Self:
        """Only now may jobs come: Dramatiq has noted whom a thread that ends one has to tell."""
        self._begin(self)
        return self

    def __next__(self) -> None:
        self._closed.wait(self.timeout_s)
        if not self.closing and self._overdue():
            self._mean_s = 1.0
            self._pace(0, resting=True)

    def ack(self, message: MessageProxy) -> None:
        """The actor has ended.  The message is acknowledged later, when the ledger has committed how."""
        if isinstance(message, JobMessage):
            self._follow(message)
            if not message.submitted:
                self.logger.critical(
                    "How job %s ended was not recorded; it is given back within a lease, and runs again.",
                    message.claim.id,
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
        """Bring in nothing more.  Dramatiq calls it at a worker's pause, too, and :meth:`reopen` ends that."""
        self._closed.set()
        self.closing = True
        self._return_ahead()
        self._on_pace(self)  # the road takes back what is held

    def reopen(self, work: WorkQueue) -> bool:
        """Go on after :meth:`close`, for the same worker: what it still runs goes on counting."""
        if work is not self._work:
            return False
        self._closed.clear()
        self.closing = self._resting = False
        return True

    # -- the pace
    def _follow(self, ended: JobMessage) -> None:
        """Let the next claimed job have the slot of one that has ended."""
        now = time.monotonic()
        with self._lock:
            self._mean_s += (now - ended.since - self._mean_s) * _WEIGHT
            # Not when the queue was just given fewer slots.
            following = self._next.popleft() if self._next and self._running <= self.slots else None
            if following is None:
                self._running -= 1
        if following is not None:
            following.since = now
            self._work.put(following)
        if self._ahead:
            if self._mean_s > 2 * SHORT_S:
                self._pace(0)
        elif self._mean_s < SHORT_S:
            self._pace(self.slots)

    def _pace(self, ahead: int, *, resting: bool = False) -> None:
        with self._lock:
            if self.closing or (self._ahead, self._resting) == (ahead, resting):
                return
            self._ahead, self._resting = ahead, resting
        if not ahead:
            self._return_ahead()
        self._on_pace(self)

    def _overdue(self) -> bool:
        """Whether something has waited here that could run elsewhere."""
        with self._lock:
            since = min([job.since for job in self._next] + [since for *_, since in self._held], default=None)
        return since is not None and time.monotonic() - since > PATIENCE_S

    def _return_ahead(self) -> None:
        with self._lock:
            returned, self._next = self._next, deque()
            self._busy -= len(returned)
        for message in returned:
            self._give_back(message)

    def _give_back(self, message: MessageProxy) -> None:
        if isinstance(message, JobMessage):
            self._release(message.claim.id, message.claim.epoch)
            message.settle(message, None)

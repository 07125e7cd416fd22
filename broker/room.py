"""Whether a queue with a limit has room for more."""

import os
import threading
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from errors import QueueDraining, QueueFull
from ledger.ledger import Ledger
from ledger.orders import Knob, Orders
from ledger.records import NewJob

#: For so long, in seconds, a look at the ledger is good while it says there is room; and while it says there is none.
ROOM_S = 0.25
FULL_S = 0.02
#: How often a process that sends asks what operators have changed.
LEARN_S = 1.0


@dataclass(slots=True)
class _Look:
    at: float
    left: int  #: room then, less what this process has sent since


class Room:
    """Which queues take no new jobs; and those with ``max_waiting``, and how much room there was at the last look.

    So a send costs a count (of one index, up to the limit) at most every quarter of a second, and a process that sends
    asks what operators have changed at most every second.  The price: what other processes send within that time may go
    beyond the limit.  Thread-safe; fork-safe; no I/O until the first send.

    Parameters:
      limits: what the code says, by queue; the others have none.
    """

    def __init__(self, ledger: Ledger, limits: Mapping[str, int]) -> None:
        self.code = limits
        self.limits = limits  #: what counts now
        self.draining: Mapping[str, str] = {}  #: queues that take no new jobs, and who said so
        self._ledger = ledger
        self._renew()
        os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        self._lock = threading.Lock()
        self._looks: dict[str, _Look] = {}
        self._pending: Counter[str] = Counter()
        self._session = self._ledger.session("hareline-room")
        self._learnt_at = -LEARN_S

    @property
    def stale(self) -> bool:
        """Whether it is time to ask what operators have changed."""
        return time.monotonic() - self._learnt_at >= LEARN_S

    def ask(self) -> None:
        """Ask what operators have changed, if it is time.  Raises ``LedgerUnavailable``."""
        if not self.stale:
            return
        with self._lock:
            if self.stale:
                self.learn(self._session.orders(0))

    def learn(self, orders: Orders) -> None:
        """In a worker the heartbeat has asked."""
        changed = {queue: int(x.count) for queue, x in orders.queues[Knob.MAX_WAITING].items()}
        self.limits = {**self.code, **changed} if changed else self.code
        self.draining = orders.draining
        self._learnt_at = time.monotonic()

    @property
    def watched(self) -> bool:
        """Whether any queue may refuse a job."""
        return bool(self.limits or self.draining)

    @contextmanager
    def taken(self, jobs: Collection[NewJob]) -> Iterator[None]:
        """While these jobs are being recorded, their room is theirs.

        Raises ``QueueFull`` if one of the queues has none, ``QueueDraining`` if it takes no new jobs, or
        ``LedgerUnavailable``.
        """
        for job in jobs:
            if (who := self.draining.get(job.queue)) is not None:
                raise QueueDraining(
                    f"queue {job.queue!r} is being drained ({who}) and takes no new jobs; send later, or let it take "
                    f"jobs again (`hareline queues resume {job.queue}`)"
                )
        limits = self.limits
        wanted = Counter(job.queue for job in jobs if job.counted and job.queue in limits)
        with self._lock:
            for queue, count in wanted.items():
                self._demand(queue, count, limits[queue])
            for queue, count in wanted.items():
                self._looks[queue].left -= count
            self._pending += wanted
        try:
            yield
        finally:
            with self._lock:
                self._pending -= wanted

    def close(self) -> None:
        with self._lock:
            self._session.close()

    def _demand(self, queue: str, count: int, limit: int) -> None:
        look = self._looks.get(queue)
        age = time.monotonic() - look.at if look is not None else ROOM_S
        if look is None or age >= ROOM_S or (look.left < count and age >= FULL_S):
            # What is being recorded may be in the count, or not yet.
            left = max(0, limit - self._session.backlog(queue, limit) - self._pending[queue])
            look = self._looks[queue] = _Look(time.monotonic(), left)
        if look.left < count:
            raise QueueFull(
                f"queue {queue!r} is full: its max_waiting is {limit:,}, there is room for {look.left:,} and {count:,} "
                f"were sent; send later, run more workers for it, or raise the limit (`hareline queues set {queue} "
                f"--max-waiting {2 * limit}`, or max_waiting in the settings of the queue)"
            )

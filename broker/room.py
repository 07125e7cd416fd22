"""Whether a queue with a limit has room for more."""

import os
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from errors import QueueFull
from ledger.ledger import Ledger
from ledger.records import NewJob

#: For so long, in seconds, a look at the ledger is good while it says there is room; and while it says there is none.
ROOM_S = 0.25
FULL_S = 0.02


@dataclass(slots=True)
class _Look:
    at: float
    left: int  #: room then, less what this process has sent since


class Room:
    """The queues with ``max_waiting``, and how much room there was when this process last looked.

    So a send costs a count (of one index, up to the limit) at most every quarter of a second.  The price: what other
    processes send within that time may go beyond the limit.  Thread-safe; fork-safe; no I/O until the first send.

    Parameters:
      limits: by queue; the others have none.
    """

    def __init__(self, ledger: Ledger, limits: Mapping[str, int]) -> None:
        self.limits = limits
        self._ledger = ledger
        self._renew()
        os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        self._lock = threading.Lock()
        self._looks: dict[str, _Look] = {}
        self._pending: Counter[str] = Counter()
        self._session = self._ledger.session("hareline-room")

    @contextmanager
    def taken(self, jobs: Iterable[NewJob]) -> Iterator[None]:
        """While these jobs are being recorded, their room is theirs.

        Raises ``QueueFull`` if one of the queues has none, or ``LedgerUnavailable``.
        """
        wanted = Counter(job.queue for job in jobs if job.counted)
        with self._lock:
            for queue, count in wanted.items():
                self._demand(queue, count)
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

    def _demand(self, queue: str, count: int) -> None:
        limit, look = self.limits[queue], self._looks.get(queue)
        age = time.monotonic() - look.at if look is not None else ROOM_S
        if look is None or age >= ROOM_S or (look.left < count and age >= FULL_S):
            # What is being recorded may be in the count, or not yet.
            left = max(0, limit - self._session.backlog(queue, limit) - self._pending[queue])
            look = self._looks[queue] = _Look(time.monotonic(), left)
        if look.left < count:
            raise QueueFull(
                f"queue {queue!r} is full: its max_waiting is {limit:,}, there is room for {look.left:,} and {count:,} "
                "were sent; send later, run more workers for it, or raise the limit "
                f"(HARELINE_QUEUES__{queue.upper().replace('-', '_')}__MAX_WAITING)"
            )

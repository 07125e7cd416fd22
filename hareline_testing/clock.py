"""The ledger's clock while a test runs."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from ledger import clock
from ledger.instants import from_micros, to_micros


class Clock:
    """Stands still until it is moved, but for a microsecond at every look: no two jobs are of one moment.

    Thread-safe.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now = time.time_ns() // 1000

    def micros(self) -> int:
        with self._lock:
            self._now += 1
            return self._now

    @property
    def now(self) -> datetime:
        return from_micros(self._now)

    def move(self, moment: datetime) -> None:
        """To ``moment``; never back."""
        with self._lock:
            self._now = max(self._now, to_micros(moment))

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Within it the ledger goes by this clock."""
        real, clock.micros = clock.micros, self.micros
        try:
            yield
        finally:
            clock.micros = real

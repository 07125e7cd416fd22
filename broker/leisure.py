"""Work that nobody waits for is put off while this process has jobs to run, but not for long."""

import time
from collections.abc import Callable

#: A process that takes more than this part of a processor is busy.
BUSY = 0.5
#: Over so many seconds at least: one that waits a moment for its servers is not idle.
SPAN_S = 0.9


class Leisure:
    """Whether there is time for it, by the processor time that this process took since it was asked last.

    Parameters:
      most_s: for so long it is put off; then it goes on, busy or not, until it has come up to now.
    """

    def __init__(self, most_s: float, *, used_s: Callable[[], float] = time.process_time) -> None:
        self._most_s, self._used = most_s, used_s
        self._at, self._used_s = time.monotonic(), used_s()
        self._done_at = self._at
        self._busy = True

    def allows(self) -> bool:
        now = time.monotonic()
        if (span := now - self._at) >= SPAN_S:
            used_s = self._used()
            self._busy = used_s - self._used_s > BUSY * span
            self._at, self._used_s = now, used_s
        return not self._busy or now - self._done_at >= self._most_s

    def caught_up(self) -> None:
        """Nothing is left to do now."""
        self._done_at = time.monotonic()

"""Waiting for what another process writes into the ledger."""

import time
from collections.abc import Iterator

#: How soon the second look is, and how far apart looks become.
FIRST_LOOK_S = 0.005
LOOK_S = 0.25


def pauses(timeout_s: float | None) -> Iterator[float]:
    """How long to pause after each look, in seconds, until time is over; there is always a first look."""
    until = None if timeout_s is None else time.monotonic() + timeout_s
    pause_s = FIRST_LOOK_S
    left = pause_s
    while left > 0:
        left = pause_s if until is None else until - time.monotonic()
        yield max(0.0, min(pause_s, left))
        pause_s = min(pause_s * 1.5, LOOK_S)

"""Waiting, on the command line, until the ledger says that something is done."""

import time
from collections.abc import Callable

from cli.given import milliseconds

#: How often the ledger is asked meanwhile.
POLL_S = 0.2


def wait_until(done: Callable[[], bool], patience: str | None) -> bool:
    """Whether it was done in that time (``30s``, ``5m``); without one nobody waits, and it is true."""
    if patience is None:
        return True
    deadline = time.monotonic() + milliseconds(patience) / 1000
    while not done():
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL_S)
    return True

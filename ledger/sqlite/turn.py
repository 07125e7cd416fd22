"""Whose turn it is to write to a SQLite file.

SQLite lets a writer that finds the file taken sleep and ask again, the longer it has waited the more seldom: up to
100 ms.  Under load a writer that has waited long is overtaken by all that came after it, for up to a second, and the
file lies idle while everybody sleeps.  So who writes queues at a lock of the kernel first, which wakes the next at
once and is free again when its holder dies.  SQLite's own lock still decides; who does not queue, another program with
the file open, is waited for as before.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from errors import LedgerUnavailable


@contextmanager
def turn(path: Path) -> Iterator[None]:
    """Held from before ``BEGIN IMMEDIATE`` until after the commit.  Not to be taken twice by one thread.

    Waits for as long as the holder lives, also for one that is stopped (``SIGSTOP``) in the middle of a write.
    Opened anew each time: a lock that a fork carried into a child would be held by both.  Raises ``LedgerUnavailable``.
    """
    beside = f"{path}-turn"
    try:
        lock = os.open(beside, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise LedgerUnavailable(
            f"the ledger {path} cannot be written: {error}; this user must be able to write to {path.parent}, "
            "and its disk must have room"
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)

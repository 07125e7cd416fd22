"""What is written beside the jobs for those who look at them.  No job waits for it, none is lost without it."""

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TypeVar

from sqlalchemy import Connection

from ledger import grouping, indexing, tallying
from ledger.engine import Database

T = TypeVar("T")

#: Jobs in one transaction: it holds the interpreter, and locks, for as short as that.
BATCH = 100
#: A duty that has more to do goes on for so long, then lets the others have their turn.
TURN_S = 0.2
#: The current minute is not counted again and again where that takes longer.
QUICK_S = 0.5
_SWEEP_S = 600.0


class Bookkeeping:
    """The duties on one ledger.  Creating one does no I/O; each may be done by several at once.

    Parameters:
      keep_days: for so long statistics are kept, and groups of failures in which nothing is left.
    """

    def __init__(self, url: str, *, keep_days: int = 90) -> None:
        self._database = Database(url)
        self._keep_days, self._kept = keep_days, timedelta(days=keep_days)
        self._took_s = 0.0
        self._swept_at = 0.0

    def close(self) -> None:
        self._database.close()

    def index(self) -> int:
        """Write the words of new jobs."""
        return self._turn(lambda connection, now: indexing.index(connection, now, BATCH))

    def look_back(self) -> int:
        """Write the words of those that were committed out of order."""
        return self._turn(lambda connection, now: indexing.look_back(connection, now, BATCH))

    def group(self) -> int:
        """Put new dead letters into groups, and now and then look at all of them."""
        done = self._turn(lambda connection, now: grouping.group(connection, now, BATCH))
        if time.monotonic() >= self._swept_at and self._write(
            lambda connection, now: grouping.sweep(connection, BATCH)
        ):
            self._swept_at = time.monotonic() + _SWEEP_S
            self._write(lambda connection, now: grouping.forget(connection, now - self._kept, BATCH))
        return done

    def tally(self) -> bool:
        """Count attempts by the minute; whether it has come up to now."""
        began = time.monotonic()
        current = self._took_s < QUICK_S
        upto_now = self._write(
            lambda connection, now: tallying.count(connection, now, current=current, keep_days=self._keep_days)
        )
        self._took_s = time.monotonic() - began if current else 0.0
        return upto_now

    def _turn(self, work: Callable[[Connection, datetime], int]) -> int:
        until, done = time.monotonic() + TURN_S, 0
        while True:
            some = self._write(work)
            done += some
            if some < BATCH or time.monotonic() >= until:
                return done

    def _write(self, work: Callable[[Connection, datetime], T]) -> T:
        with self._database.write() as connection:
            return work(connection, self._database.time(connection))

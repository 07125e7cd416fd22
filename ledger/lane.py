"""Group commit by a thread: callers hand it rows and are called back.

Everything that queued up meanwhile goes into one transaction.  Nothing is dropped: a full lane makes its callers
wait, and while the database is away it keeps trying.  Producers, who wait for the commit, have :mod:`ledger.pen`.
"""

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from errors import LedgerBusy, LedgerUnavailable, SchemaMismatch
from ledger.ledger import Session
from metrics.catalogue import BATCH as BATCH_SIZE
from metrics.catalogue import LAG
from metrics.meter import Meter

T = TypeVar("T")

logger = logging.getLogger(__name__)

#: Rows in one transaction; larger ones only make others wait longer.
BATCH = 500


class Lane(threading.Thread, Generic[T]):
    """A thread that owns one session and writes whatever has queued up.

    Parameters:
      write: called with the session and a batch, on this thread.  ``LedgerUnavailable`` and ``SchemaMismatch``
        (no row's fault) make the lane wait and call it again with the same batch; any other exception makes
        it try the rows one half at a time, down to the single row that is bad, which goes to ``spoiled``, or that
        needs what somebody else has locked (``LedgerBusy``), which is tried again after those that wait.
      spoiled: called with a row that cannot be written, and the exception.
      limit: how many rows may wait before :meth:`put` blocks.
      linger_s: how long to let rows gather before writing; 0 writes at once.
      meter: told how large batches are, and how long their first rows waited; None in a process without metrics.
    """

    def __init__(
        self,
        name: str,
        open_session: Callable[[str], Session],
        write: Callable[[Session, list[T]], None],
        *,
        spoiled: Callable[[Session, T, Exception], None],
        limit: int = 10_000,
        linger_s: float = 0.0,
        meter: Meter | None = None,
    ) -> None:
        super().__init__(name=f"hareline-{name}", daemon=True)
        self._open_session = open_session
        self._write = write
        self._spoiled = spoiled
        self._limit = limit
        self._linger_s = linger_s
        self._meter = meter
        self._since: deque[float] = deque()  # when each of the rows came, for the meter
        self._rows: deque[T] = deque()
        self._wake = threading.Condition()
        self._writing = False
        self._stopping = False
        self._waited = threading.Event()

    def put(self, row: T, *, block: bool = True) -> None:
        """Hand over one row.  Blocks while the lane is full, unless told not to.  Any thread."""
        with self._wake:
            while block and len(self._rows) >= self._limit and self.is_alive() and not self._stopping:
                self._wake.wait(1.0)
            self._rows.append(row)
            if self._meter is not None:
                self._since.append(time.monotonic())
            if len(self._rows) == 1 or not block:
                self._wake.notify_all()

    def flush(self, timeout_s: float) -> bool:
        """Wait until everything handed over so far is committed and answered; false when time ran out."""
        deadline = time.monotonic() + timeout_s
        with self._wake:
            while self._rows or self._writing:
                self._waited.set()
                left = deadline - time.monotonic()
                if left <= 0 or not self.is_alive():
                    return False
                self._wake.notify_all()
                self._wake.wait(min(left, 0.05))
        return True

    def stop(self, timeout_s: float = 10.0) -> bool:
        """Write what is left, then end; false when time ran out first (the rows are then not written)."""
        done = self.flush(timeout_s) if self.is_alive() else not self._rows
        with self._wake:
            self._stopping = True
            self._wake.notify_all()
        self._waited.set()
        if self.is_alive():
            self.join(timeout=1.0)
        return done

    def __len__(self) -> int:
        return len(self._rows)

    def run(self) -> None:
        session = self._open_session(self.name)
        try:
            while (batch := self._take()) is not None:
                self._attempt(session, batch)
                if self._meter is not None:
                    self._measure(self._meter, len(batch))
                with self._wake:
                    self._writing = False
                    self._wake.notify_all()
        finally:
            session.close()

    def _take(self) -> list[T] | None:
        with self._wake:
            while not self._rows and not self._stopping:
                self._wake.wait()
            if not self._rows:
                return None
            self._writing = True
        if self._linger_s and not self._stopping:
            self._waited.wait(self._linger_s)
            self._waited.clear()
        rows = self._rows
        return [rows.popleft() for _ in range(min(len(rows), BATCH))]

    def _measure(self, meter: Meter, rows: int) -> None:
        lane = (self.name.removeprefix("hareline-"),)
        first, *_ = [self._since.popleft() for _ in range(rows)]
        meter.note((BATCH_SIZE, lane, rows), (LAG, lane, time.monotonic() - first))

    def _attempt(self, session: Session, batch: list[T]) -> None:
        pause_s = 0.05
        while True:
            try:
                self._write(session, batch)
                return
            except (LedgerUnavailable, SchemaMismatch) as error:
                if self._stopping:
                    logger.error(
                        "%s: the ledger is away at shutdown; %d rows are left to the rescuer: %s",
                        self.name,
                        len(batch),
                        error,
                    )
                    return
                waiting = len(batch) + len(self._rows)
                if isinstance(error, LedgerBusy):
                    logger.warning("%s: somebody has locked what one of %d rows needs: %s", self.name, waiting, error)
                    if len(batch) == 1:
                        time.sleep(pause_s)
                        self.put(batch[0], block=False)
                    else:
                        self._halve(session, batch)
                    return
                logger.warning("%s: the ledger is away, %d rows wait: %s", self.name, waiting, error)
                time.sleep(pause_s * random.uniform(0.5, 1.0))
                pause_s = min(pause_s * 2, 2.0)
            except Exception as error:
                if len(batch) == 1:
                    logger.exception("%s: one row cannot be written", self.name)
                    self._give_up(session, batch[0], error)
                else:
                    self._halve(session, batch)
                return

    def _halve(self, session: Session, batch: list[T]) -> None:
        middle = len(batch) // 2
        self._attempt(session, batch[:middle])
        self._attempt(session, batch[middle:])

    def _give_up(self, session: Session, row: T, error: Exception) -> None:
        try:
            self._spoiled(session, row, error)
        except Exception:
            logger.critical("%s: a spoiled row could not be dealt with: %r", self.name, row, exc_info=True)

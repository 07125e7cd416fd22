"""Group commit without a thread: the first caller writes for all who wait; a lone ``send()`` pays for no hand-over."""

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from errors import LedgerUnavailable
from ledger.ledger import Session
from ledger.records import Enqueued, NewJob

logger = logging.getLogger(__name__)

#: Jobs of several callers in one transaction.
BATCH = 500
#: How long to wait, in seconds, for those one met at the commit before: they are about to send again.
GATHER_S = 0.00005


class _Slip:
    """What one caller waits for."""

    __slots__ = ("answers", "done", "error", "has_pen", "jobs", "turn")

    def __init__(self, jobs: Sequence[NewJob]) -> None:
        self.jobs = jobs
        self.done = False
        self.answers: list[Enqueued] = []
        self.error: Exception | None = None
        self.has_pen = False
        self.turn = threading.Lock()  # free once it is done, or has the pen
        self.turn.acquire()

    def call(self) -> None:
        """End its caller's wait.  Idempotent."""
        if self.turn.locked():
            self.turn.release()


class Pen:
    """Records new jobs for any number of threads over one session.

    Whoever finds the pen free writes, for everyone who queued up too; then whoever waits longest has it.
    Fork-safe: a child starts with a pen of its own.

    Parameters:
      recorded: called by the writing thread with the jobs of one commit and what became of them, before their
        callers return; what it raises is logged.
    """

    def __init__(
        self,
        open_session: Callable[[str], Session],
        recorded: Callable[[Sequence[NewJob], Sequence[Enqueued]], None],
    ) -> None:
        self._open_session = open_session
        self._recorded = recorded
        self._renew()
        os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        self._waiting: deque[_Slip] = deque()
        self._lock = threading.Lock()
        self._using = threading.Lock()
        self._free = True
        self._met = 1
        self._session = self._open_session("hareline-producer")

    def enqueue(self, jobs: Sequence[NewJob]) -> list[Enqueued]:
        """Record jobs, all or none; they are committed when this returns.

        Raises:
          LedgerUnavailable: the database is away; nothing may be assumed recorded (sending the same
            jobs again is safe).
        """
        slip = _Slip(jobs)
        try:
            with self._lock:
                self._waiting.append(slip)
                slip.has_pen, self._free = self._free, False
            if not slip.has_pen:
                slip.turn.acquire()
            while not slip.done:  # those before it may fill more than one batch
                self._write(slip)
        finally:  # Ctrl-C, an interrupt, are meant for this thread; the others must not wait for it
            self._leave(slip)
        if slip.error is not None:
            raise slip.error
        return slip.answers

    def _leave(self, own: _Slip) -> None:
        with self._lock:
            if not own.done and own in self._waiting:
                self._waiting.remove(own)
            if own.has_pen:
                if self._waiting:
                    self._waiting[0].has_pen = True
                    self._waiting[0].call()
                else:
                    self._free = True
                own.has_pen = False

    def _write(self, own: _Slip) -> None:
        if len(self._waiting) < self._met:
            time.sleep(GATHER_S)
        slips: list[_Slip] = []
        size = 0
        with self._lock:
            while self._waiting and (not slips or size + len(self._waiting[0].jobs) <= BATCH):
                slips.append(self._waiting.popleft())
                size += len(slips[-1].jobs)
        self._met = len(slips)
        try:
            answers = self._commit([job for slip in slips for job in slip.jobs])
        except Exception as error:
            for slip in slips:
                self._alone(slip, error if len(slips) == 1 or isinstance(error, LedgerUnavailable) else None)
        except BaseException:
            with self._lock:
                self._waiting.extendleft(slip for slip in reversed(slips) if slip is not own)
            raise
        else:
            start = 0
            for slip in slips:
                slip.answers = answers[start : start + len(slip.jobs)]
                start += len(slip.jobs)
                slip.done = True
        for slip in slips:
            slip.call()

    def _alone(self, slip: _Slip, error: Exception | None) -> None:
        """One bad job must not fail the sends that happened to share its transaction."""
        if error is None:
            try:
                slip.answers = self._commit(slip.jobs)
            except Exception as own:
                error = own
        slip.error = error
        slip.done = True

    def _commit(self, jobs: Sequence[NewJob]) -> list[Enqueued]:
        with self._using:
            answers = enqueue_at_once(self._session, jobs)
        try:
            self._recorded(jobs, answers)
        except Exception:
            logger.critical("%d jobs are recorded, but were not sent on; the relay does that", len(jobs), exc_info=True)
        return answers

    def close(self) -> None:
        """Close the connection once no commit is under way on it; a later send opens another."""
        with self._using:
            self._session.close()


def enqueue_at_once(session: Session, jobs: Sequence[NewJob]) -> list[Enqueued]:
    """For a sender who waits: now or not at all.  Raises ``LedgerUnavailable``."""
    try:
        return session.enqueue(jobs)
    except LedgerUnavailable:
        # An idle connection the database closed meanwhile: once more, on a new one.  Same ids: no double.
        return session.enqueue(jobs)

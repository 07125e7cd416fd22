"""Checkpoints of running jobs: one session for all threads of a process, each call a commit of its own."""

import os
import threading
from collections.abc import Callable
from typing import TypeVar

from errors import LedgerUnavailable
from ledger.ledger import Ledger, Session

T = TypeVar("T")


class Checkpoints:
    """Keeps and finds checkpoints.  Thread-safe; fork-safe; connects at first use.  Raises ``LedgerUnavailable``."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._renew()
        os.register_at_fork(after_in_child=self._renew)

    def keep(self, job: str, epoch: int, body: bytes) -> bool:
        """Keep ``body`` for the job's next attempt, durably; false when this epoch is over, and nothing is kept."""
        return self._call(lambda session: session.checkpoint(job, epoch, body))

    def find(self, job: str) -> bytes | None:
        """What was kept last, or None."""
        return self._call(lambda session: session.kept(job))

    def close(self) -> None:
        with self._lock:
            self._session.close()

    def _renew(self) -> None:
        self._lock = threading.Lock()
        self._session: Session = self._ledger.session("hareline-checkpoints")

    def _call(self, work: Callable[[Session], T]) -> T:
        with self._lock:
            try:
                return work(self._session)
            except LedgerUnavailable:
                return work(self._session)  # an idle connection the database closed meanwhile: once more, on a new one

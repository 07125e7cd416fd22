"""A session that many threads use, one at a time, each call a transaction of its own."""

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from errors import LedgerUnavailable
from ledger.ledger import Ledger, Session

T = TypeVar("T")


class SharedSession:
    """Thread-safe; fork-safe; connects at first use.

    Parameters:
      name: shows in ``pg_stat_activity``.
    """

    def __init__(self, ledger: Ledger, name: str) -> None:
        self._ledger = ledger
        self._name = name
        self._renew()
        os.register_at_fork(after_in_child=self._renew)

    def call(self, work: Callable[[Session], T]) -> T:
        """What ``work`` returns.  It may be called twice, so it must be idempotent.  Raises ``LedgerUnavailable``."""
        with self._lock:
            try:
                return work(self._session)
            except LedgerUnavailable:
                return work(self._session)  # an idle connection the database closed meanwhile: once more, on a new one

    def once(self, work: Callable[[Session], T]) -> T:
        """The same for what may not be done twice: it is not called again, so its answer may be lost."""
        with self._lock:
            with suppress(LedgerUnavailable):
                self._session.clock()  # finds out whether an idle connection was closed meanwhile
            return work(self._session)

    def close(self) -> None:
        """Close the connection; a later call opens another."""
        with self._lock:
            self._session.close()

    def _renew(self) -> None:
        self._lock = threading.Lock()
        self._session: Session = self._ledger.session(self._name)

"""Things a process makes once, at their first use: a connection pool, an HTTP client."""

import os
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class per_process(Generic[T]):
    """Call ``make`` once per process and answer with what it made ever after.

    Thread-safe.  A forked child makes its own; it never closes the parent's, because closing an
    inherited connection would say goodbye to the server in the parent's name.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._made: list[T] = []
        self._inherited: list[T] = []  # kept alive, so that no finalizer closes it
        os.register_at_fork(after_in_child=self._forked)

    def __call__(self) -> T:
        with self._lock:
            if not self._made:
                self._made.append(self._make())
            return self._made[0]

    def forget(self) -> None:
        """Make a new one at the next call; whoever holds the old one closes it."""
        with self._lock:
            self._made.clear()

    def _forked(self) -> None:
        self._lock = threading.Lock()
        self._inherited += self._made
        self._made = []

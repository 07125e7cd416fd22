"""No SQLite connection may be open while the process forks.

SQLite keeps its file locks and its view of the WAL in the process's memory.  A child that inherits
them believes it holds locks the kernel never gave it: it opens a connection of its own without a real
shared lock, and when the parent leaves, the parent deletes the WAL the child is writing to.  So whoever
uses a connection does it inside a :class:`Guard`; a fork waits for every guard, has the connection
closed, and both sides open a new one at their next use.
"""

import os
import threading
import weakref
from collections.abc import Callable
from types import TracebackType


class Guard:
    """Held while a connection is in use (``with guard:``); the method ``close`` is called just before a fork."""

    def __init__(self, close: Callable[[], None] | None = None) -> None:
        self._close = weakref.WeakMethod(close) if close else None
        self._lock = threading.Lock()
        with _registry:
            _guards.add(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._lock.release()

    def before_fork(self) -> None:
        self._lock.acquire()
        if self._close and (close := self._close()):
            close()

    def after_fork(self) -> None:
        self._lock.release()


_registry = threading.Lock()
_guards: weakref.WeakSet[Guard] = weakref.WeakSet()
_held: list[Guard] = []


def _before() -> None:
    _registry.acquire()
    for guard in list(_guards):
        guard.before_fork()
        _held.append(guard)


def _after() -> None:
    while _held:
        _held.pop().after_fork()
    _registry.release()


os.register_at_fork(before=_before, after_in_parent=_after, after_in_child=_after)

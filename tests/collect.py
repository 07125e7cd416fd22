"""What callbacks on other threads report, for a test to wait for."""

import threading
import time
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

T = TypeVar("T")

PATIENCE_S = 30.0


class Collected(Generic[T]):
    """A list that other threads fill; its instances are callbacks."""

    def __init__(self) -> None:
        self._items: list[T] = []
        self._changed = threading.Condition()

    def __call__(self, item: T) -> None:
        self.add([item])

    def add(self, items: Iterable[T]) -> None:
        with self._changed:
            self._items.extend(items)
            self._changed.notify_all()

    def __len__(self) -> int:
        return len(self._items)

    @property
    def items(self) -> list[T]:
        with self._changed:
            return list(self._items)

    def wait(self, enough: Callable[[list[T]], bool], timeout_s: float = PATIENCE_S) -> list[T]:
        """The items, once there are ``enough``; fails the test after ``timeout_s``."""
        with self._changed:
            done = self._changed.wait_for(lambda: enough(self._items), timeout_s)
            assert done, f"still not enough after {timeout_s} s: {len(self._items)} items, the last {self._items[-3:]}"
            return list(self._items)

    def wait_for(self, count: int, timeout_s: float = PATIENCE_S) -> list[T]:
        """The items, once there are ``count``."""
        return self.wait(lambda items: len(items) >= count, timeout_s)


def eventually(true: Callable[[], bool], what: str, timeout_s: float = PATIENCE_S) -> None:
    """Wait for something that sends no signal; fails the test after ``timeout_s``."""
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline, f"still not so after {timeout_s} s: {what}"
        time.sleep(0.01)

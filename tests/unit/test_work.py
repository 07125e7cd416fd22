"""The queue between the intakes and the worker threads."""

import random
import sys
import threading
import time
from collections.abc import Iterator
from queue import Empty
from typing import Any, cast

import pytest

from broker.work import WorkQueue


@pytest.fixture
def restless() -> Iterator[None]:
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.0005)
    yield
    sys.setswitchinterval(before)


def test_a_closed_queue_lets_go_of_every_thread_that_waits(restless: None) -> None:
    for _ in range(10):
        queue = WorkQueue(lambda: 0)
        stop = threading.Event()

        def work(queue: WorkQueue = queue, stop: threading.Event = stop) -> None:
            while not stop.is_set():
                try:
                    queue.get(timeout=0.0005)
                except Empty:
                    continue
                sum(range(random.randrange(300)))

        threads = [threading.Thread(target=work, daemon=True) for _ in range(16)]
        for thread in threads:
            thread.start()
        end = time.monotonic() + 0.2
        while time.monotonic() < end:
            for _ in range(random.randrange(4)):
                queue.put(cast(Any, object()))
        queue.close(len(threads))
        stop.set()
        for thread in threads:
            thread.join(2)
        assert not any(thread.is_alive() for thread in threads)


def test_what_came_after_the_close_can_still_be_given_back() -> None:
    queue = WorkQueue(lambda: 0)
    queue.close(3)
    queue.put(late := cast(Any, object()))
    with pytest.raises(Empty):
        queue.get(timeout=1)
    assert queue.get_nowait() is late
    with pytest.raises(Empty):
        queue.get_nowait()

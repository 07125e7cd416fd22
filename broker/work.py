"""Claimed jobs on their way to the worker threads."""

import time
from collections.abc import Callable
from queue import Empty, SimpleQueue

from middleware.attempt import JobMessage


class WorkQueue:
    """First come, first served, in the place of Dramatiq's PriorityQueue, and without its consumer threads' detour.

    There are as many threads as slots, so a job never waits here for another; its turn was decided when it
    was claimed.  A PriorityQueue's condition, and one more thread to pass through, took a quarter of the
    processor time of a short job.

    Parameters:
      unfinished: how many claimed jobs of this process are not recorded as ended.
    """

    def __init__(self, unfinished: Callable[[], int]) -> None:
        jobs: SimpleQueue[JobMessage | None] = SimpleQueue()
        self._unfinished = unfinished
        self._closed = False
        self.put: Callable[[JobMessage], None] = jobs.put
        self.empty = jobs.empty
        self.qsize = jobs.qsize
        self._get = jobs.get
        self._wake = jobs.put

    def get(self, block: bool = True, timeout: float | None = None) -> JobMessage:
        """The next job.  Raises ``queue.Empty`` after ``timeout`` seconds, and soon once closed."""
        if self._closed:
            time.sleep(0.01)
            raise Empty
        job = self._get(block, timeout)
        if job is None:
            raise Empty
        return job

    def get_nowait(self) -> JobMessage:
        """A job that no thread has begun.  Raises ``queue.Empty``."""
        while True:
            job = self._get(False)
            if job is not None:
                return job

    def close(self, threads: int) -> None:
        """Hand out nothing more, and wake the ``threads`` that wait."""
        self._closed = True
        self.wake(threads)

    def wake(self, threads: int) -> None:
        """Let so many waiting threads see what has changed: that they are to pause, or to end.

        Their timeout is not enough: a SimpleQueue's getter that was woken when its time was up, and found that
        another had been quicker, waits on without one (CPython 3.11: what is left of it is negative by then).
        """
        for _ in range(threads):
            self._wake(None)

    def task_done(self) -> None:
        """A job is done when that is recorded, which its thread does not wait for."""

    @property
    def unfinished_tasks(self) -> int:
        return self._unfinished()

    def join(self) -> None:
        """Wait until everything claimed is recorded as ended.  For ``Worker.join``, in tests."""
        while self._unfinished():
            time.sleep(0.005)

"""Claimed jobs on their way to the worker threads."""

import time
from collections.abc import Callable
from queue import SimpleQueue

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
        jobs: SimpleQueue[JobMessage] = SimpleQueue()
        self._unfinished = unfinished
        self.put = jobs.put
        self.get_nowait = jobs.get_nowait
        self.empty = jobs.empty
        self.qsize = jobs.qsize
        self._get = jobs.get

    def get(self, block: bool = True, timeout: float | None = None) -> JobMessage:
        """The next job.  Raises ``queue.Empty`` after ``timeout`` seconds."""
        return self._get(block, timeout)

    def task_done(self) -> None:
        """A job is done when that is recorded, which its thread does not wait for."""

    @property
    def unfinished_tasks(self) -> int:
        return self._unfinished()

    def join(self) -> None:
        """Wait until everything claimed is recorded as ended.  For ``Worker.join``, in tests."""
        while self._unfinished():
            time.sleep(0.005)

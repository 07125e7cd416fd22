"""The newest progress of running jobs, let through once a second for each."""

import threading
import time
from typing import NamedTuple

#: At most one write of a job in so many seconds, but for its last.
EVERY_S = 1.0


class Progress(NamedTuple):
    """How far a job is."""

    job: str
    done: float
    total: float | None
    note: str


class Reports:
    """What jobs report, however often; each call answers with what is to be written now.  Thread-safe."""

    def __init__(self, every_s: float = EVERY_S) -> None:
        self.every_s = every_s
        self._lock = threading.Lock()
        self._written: dict[str, float] = {}  # when, by the monotonic clock
        self._waiting: dict[str, Progress] = {}

    def add(self, report: Progress) -> Progress | None:
        """The report, or None: it waits for :meth:`due` or :meth:`close`, or for a newer one to take its place."""
        now = time.monotonic()
        with self._lock:
            if now - self._written.get(report.job, -self.every_s) < self.every_s:
                self._waiting[report.job] = report
                return None
            self._written[report.job] = now
            self._waiting.pop(report.job, None)
            return report

    def due(self) -> list[Progress]:
        """Those that have waited long enough.  To be asked about once a second."""
        if not self._waiting:
            return []
        now = time.monotonic()
        with self._lock:
            jobs = [job for job in self._waiting if now - self._written[job] >= self.every_s]
            self._written.update(dict.fromkeys(jobs, now))
            return [self._waiting.pop(job) for job in jobs]

    def close(self, job: str) -> Progress | None:
        """The last word of a job, unless it is written; the job is forgotten."""
        if job not in self._written:
            return None
        with self._lock:
            self._written.pop(job, None)
            return self._waiting.pop(job, None)

"""How a process counts."""

import math
import os
import threading
from array import array
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Final

from metrics.catalogue import OTHER, Metric
from metrics.file import File, Full, Pair, encoded

#: So many job types, queues, circuits and duties are told apart; what comes then counts together as ``(other)``.
MOST: Final = 200
_OPEN: Final = frozenset({"job_type", "queue", "circuit", "duty"})

#: A counter goes up by the number, a gauge is set to it, a histogram observes it.
Change = tuple[Metric, tuple[str, ...], float]


class Meter:
    """Counts what happens in this process.  Thread-safe.  Before :meth:`open`, and in a forked child, it does nothing.

    The changes of one call count together, or not at all, whenever the process is killed.

    Parameters:
      join: makes the file of this process (:meth:`metrics.folder.Folder.join`).
    """

    def __init__(self, join: Callable[[], File]) -> None:
        self._join = join
        self._file: File | None = None
        self._reset()
        os.register_at_fork(after_in_child=self._forked)

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._places: dict[tuple[Metric, tuple[str, ...]], int] = {}
        self._told_apart: dict[str, set[str]] = defaultdict(set)
        self._later: list[Change] = []
        self._pending = b""

    def _forked(self) -> None:
        if self._file is not None:
            self._file.close()  # it is the parent's
            self._file = None
        self._reset()

    def open(self) -> None:
        """Begin to count.  Idempotent."""
        with self._lock:
            if self._file is None:
                self._file = self._join()
                self._file.publish()

    def close(self) -> None:
        """Count no further; what was counted stays.  Idempotent."""
        with self._lock:
            if self._file is not None:
                self._file.publish(self._pending)
                self._file.close()
                self._file = None
                self._places = {}

    def count(self, *changes: Change) -> None:
        with self._lock:
            self._apply(changes)
            self._publish()

    def note(self, *changes: Change) -> None:
        """As :meth:`count`, seen with the next change of another kind: for what happens too often, and may be lost."""
        with self._lock:
            self._apply(changes)

    def totals(self, metric: Metric, totals: Mapping[str, float]) -> None:
        """Set a counter that somebody else counts, by its label."""
        with self._lock:
            for label, total in totals.items():
                if (place := self._place(metric, (label,))) is not None:
                    self._values[place] = total
            self._publish()

    def show(self, metrics: Collection[Metric], changes: Iterable[Change]) -> None:
        """Let these gauges have the values given, and no others."""
        with self._lock:
            for (metric, _), place in self._places.items():
                if metric in metrics:
                    self._values[place] = math.nan
            self._apply(changes)
            self._publish()

    # -- of the thread that finishes jobs
    def begin(self, finishes: Sequence[Pair]) -> None:
        """These are about to be committed.  Is the process killed before :meth:`end`, the ledger is asked for them."""
        with self._lock:
            self._pending = encoded(finishes)
            self._publish()

    def later(self, *changes: Change) -> None:
        """Count these with the next :meth:`end`."""
        self._later.extend(changes)

    def end(self) -> None:
        """Those last begun are committed, and counted by what :meth:`later` was given."""
        changes, self._later = self._later, []
        with self._lock:
            self._pending = b""
            self._apply(changes)
            self._publish()

    # -- under the lock
    def _apply(self, changes: Iterable[Change]) -> None:
        for metric, labels, number in changes:
            place = self._places.get((metric, labels))
            if place is None and (place := self._place(metric, labels)) is None:
                continue
            values = self._values
            if metric.kind == "counter":
                values[place] += number
            elif metric.kind == "gauge":
                values[place] = number
            else:
                values[place + bisect_left(metric.buckets, number)] += 1
                values[place + len(metric.buckets) + 1] += number

    @property
    def _values(self) -> "array[float]":
        assert self._file is not None
        return self._file.values

    def _place(self, metric: Metric, labels: tuple[str, ...]) -> int | None:
        if self._file is None:
            return None
        place = self._places.get((metric, labels))
        if place is not None:
            return place
        bounded = tuple(map(self._bounded, metric.labels, labels))
        place = self._places.get((metric, bounded))
        if place is None:
            try:
                place = self._places[metric, bounded] = self._file.series(metric.name, bounded)
            except Full:
                return None
        return place

    def _bounded(self, name: str, value: str) -> str:
        if name not in _OPEN:
            return value
        told_apart = self._told_apart[name]
        if value not in told_apart:
            if len(told_apart) >= MOST:
                return OTHER
            told_apart.add(value)
        return value

    def _publish(self) -> None:
        if self._file is not None:
            self._file.publish(self._pending)

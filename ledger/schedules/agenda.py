"""What fires next, of any number of schedules: a heap of their next ticks."""

import heapq
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

from ledger.schedules.missed import Pending, pending
from ledger.schedules.schedule import Schedule


class Entry:
    """One schedule that sends, and how far its ticks are decided."""

    __slots__ = ("done_until", "key", "revision", "schedule", "token", "waiting")

    def __init__(self, key: str, schedule: Schedule, revision: int, done_until: datetime) -> None:
        self.key = key
        self.schedule = schedule
        self.revision = revision
        self.done_until = done_until
        self.waiting: tuple[datetime, ...] = ()  #: fire times that could not be sent yet
        self.token = 0

    def pending(self, now: datetime) -> Pending:
        return pending(self.schedule, self.done_until, now)


class Agenda:
    """Each schedule stands in the heap once; what was put off or changed leaves a line there that nothing heeds."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self._heap: list[tuple[datetime, int, str]] = []
        self._tokens = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: str) -> Entry | None:
        return self._entries.get(key)

    def put(self, entry: Entry) -> None:
        """Add a schedule, or go by its newer revision."""
        if (known := self._entries.get(entry.key)) is None or known.revision != entry.revision:
            self._entries[entry.key] = entry
            self.plan(entry)

    def drop(self, key: str) -> None:
        self._entries.pop(key, None)

    def plan(self, entry: Entry, not_before: datetime | None = None) -> None:
        """Its next tick that is not decided comes when it is due, or not before that moment."""
        timetable = entry.schedule.timetable
        fire_at = timetable.next(entry.done_until)
        self._tokens += 1
        entry.token = self._tokens
        if fire_at is not None:
            due = timetable.due(entry.key, fire_at)
            heapq.heappush(self._heap, (due if not_before is None else max(due, not_before), entry.token, entry.key))

    def due(self, now: datetime) -> Iterator[Entry]:
        """Those with a tick that is due, taken from the heap: :meth:`plan` each again, once it is decided."""
        while self._heap and self._heap[0][0] <= now:
            _, token, key = heapq.heappop(self._heap)
            entry = self._entries.get(key)
            if entry is not None and entry.token == token:
                yield entry

    def next_due(self) -> datetime | None:
        """When there is something to do."""
        return self._heap[0][0] if self._heap else None

    def retry(self, entries: Iterable[Entry], now: datetime, after_s: float) -> None:
        """Plan these again, not before a moment."""
        for entry in entries:
            self.plan(entry, now + timedelta(seconds=after_s))

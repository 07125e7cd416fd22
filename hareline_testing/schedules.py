"""The ticks of schedules, in the order in which they fall due."""

import heapq
from collections.abc import Sequence
from datetime import UTC, datetime

from broker import Broker
from broker.ticks import message_of
from ledger.schedules import Schedule
from scheduler import plan
from settings import Settings


class Ticks:
    """What the schedules send from a moment on.

    Raises ``BadSchedule`` for a schedule that cannot work, as ``hareline scheduler`` does at its start.
    """

    def __init__(self, schedules: Sequence[Schedule], settings: Settings, broker: Broker, start: datetime) -> None:
        self._broker = broker
        self._ahead: list[tuple[datetime, int, datetime, Schedule]] = []
        for number, (schedule, left_out) in enumerate(plan(schedules, settings, broker)):
            if not left_out:
                self._push(number, schedule, start)

    @property
    def next_at(self) -> datetime | None:
        """When the next one is due."""
        return self._ahead[0][0] if self._ahead else None

    def send_next(self) -> None:
        """Enqueue the next one, as of its time."""
        _, number, fire_at, schedule = heapq.heappop(self._ahead)
        self._broker.enqueue_tick(message_of(self._broker, schedule), (schedule.key, fire_at))
        self._push(number, schedule, fire_at)

    def _push(self, number: int, schedule: Schedule, after: datetime) -> None:
        fire_at = schedule.timetable.next(after)
        if fire_at is not None:
            due_at = schedule.timetable.due(schedule.key, fire_at).astimezone(UTC)
            heapq.heappush(self._ahead, (due_at, number, fire_at, schedule))

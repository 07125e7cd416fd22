"""The ticks of schedules, in the order in which they fall due."""

import heapq
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from apscheduler.triggers.base import BaseTrigger

from broker import Broker
from scheduler import Schedule, plan
from settings import Settings


class Ticks:
    """What the schedules send from a moment on.

    Raises ``BadSchedule`` for a schedule that cannot work, as ``hareline scheduler`` does at its start.
    """

    def __init__(self, schedules: Sequence[Schedule], settings: Settings, broker: Broker, start: datetime) -> None:
        self._broker = broker
        self._ahead: list[tuple[datetime, int, Schedule, BaseTrigger]] = []
        for number, (schedule, trigger) in enumerate(plan(schedules, settings, broker)):
            self._push(number, schedule, trigger, start)

    @property
    def next_at(self) -> datetime | None:
        """When the next one is due."""
        return self._ahead[0][0] if self._ahead else None

    def send_next(self) -> None:
        """Enqueue the next one, as of its time."""
        at, number, schedule, trigger = heapq.heappop(self._ahead)
        self._broker.enqueue_tick(schedule.message(self._broker), (schedule.key, at))
        self._push(number, schedule, trigger, at)

    def _push(self, number: int, schedule: Schedule, trigger: BaseTrigger, after: datetime) -> None:
        at = trigger.get_next_fire_time(None, after + timedelta(microseconds=1))
        if at is not None:
            heapq.heappush(self._ahead, (at.astimezone(UTC), number, schedule, trigger))

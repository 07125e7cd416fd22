"""Which of the ticks that came due are sent, and which were missed."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import takewhile

from ledger.schedules.schedule import Schedule


@dataclass(frozen=True, slots=True)
class Pending:
    """What is to be done at a moment."""

    send: Sequence[datetime]  #: fire times, in order
    missed: tuple[datetime, datetime] | None = None  #: the first and the last of those that are not sent any more


def pending(schedule: Schedule, done_until: datetime, now: datetime) -> Pending:
    """Of the ticks after ``done_until`` that are due by ``now``, those the schedule's policy wants sent.

    In the order of their fire times: one whose jitter puts it off holds up those after it.
    """
    timetable = schedule.timetable
    oldest, most = schedule.window
    jitter = timedelta(seconds=timetable.jitter_s)
    begin = now - oldest - jitter
    surely = timetable.newest(max(done_until, begin), max(done_until, now - jitter), most)
    perhaps = timetable.between(max(done_until, now - jitter), now)
    send = [*surely, *takewhile(lambda at: timetable.due(schedule.key, at) <= now, perhaps)][-most:]
    first, bound = timetable.next(done_until), send[0] if send else begin
    if first is None or first >= bound:
        return Pending(send)
    [last] = timetable.newest(done_until, bound - timedelta(microseconds=1), 1)
    return Pending(send, (first, last))

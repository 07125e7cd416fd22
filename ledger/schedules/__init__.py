"""Schedules as data: pure code, no database.

timetable.py   when: intervals and cron, in a zone, on the two odd nights too
cron.py        five or six fields as a calendar
zones.py       when a zone's clocks change
words.py       a timetable for people
schedule.py    a message, its timetable, what becomes of late ticks and of overlaps
declare.py     @every and @cron
missed.py      which of the ticks that came due are sent
"""

from ledger.schedules.declare import cron, every
from ledger.schedules.schedule import Missed, Overlap, Schedule

__all__ = ["Missed", "Overlap", "Schedule", "cron", "every"]

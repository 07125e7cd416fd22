"""The duty that counts attempts and dead letters: the current minute often, others once more when they are over."""

from datetime import datetime, timedelta

from sqlalchemy import Connection, func, select, text

from ledger import bookmarks, tally
from ledger.tables import DIED, attempts, journal
from ledger.tally import HOUR_S, MINUTE_S

#: Minutes counted anew when one is over: what was committed late is in them.
AGAIN = timedelta(minutes=3)
#: What is counted in one transaction, after a time in which nobody did.
MOST = timedelta(minutes=30)
#: At the first time, so much is counted of what was there before.
FIRST = timedelta(days=1)
MINUTES_KEPT = timedelta(days=2)

_PLACE = "tally"


def count(connection: Connection, now: datetime, *, current: bool, keep_days: int) -> bool:
    """Count what is new; whether it has come up to now.  Not ``current``: only minutes that are over."""
    minute = tally.floor(now, MINUTE_S)
    told = bookmarks.held(connection, _PLACE, tally.floor(now - FIRST, HOUR_S).isoformat())
    if told is None:
        return True
    place = datetime.fromisoformat(told)
    if place >= minute:
        if current:
            tally.roll_up(connection, minute, minute + timedelta(seconds=MINUTE_S))
            tally.roll_up_again(connection, minute, minute + timedelta(seconds=MINUTE_S))
        return True
    if minute - place > MOST:  # nobody has counted for long, or ever
        place = max(place, min(minute, _next_end(connection, place) or minute))
    since = place - AGAIN
    until = min(minute, place + MOST)
    tally.roll_up(connection, since, until)
    tally.roll_up_again(connection, since, until)
    tally.forget(connection, now - MINUTES_KEPT, now - timedelta(days=keep_days))
    bookmarks.move(connection, _PLACE, until.isoformat())
    return until == minute


def _next_end(connection: Connection, after: datetime) -> datetime | None:
    """The hour in which the next attempt or job ended: what is empty before it need not be counted in steps."""
    ends = attempts.c.finished_at
    asked = (
        select(func.min(ends)).where(ends >= after),
        select(func.min(journal.c.at)).where(text(DIED), journal.c.at >= after),
    )
    found: list[datetime] = [at for each in asked if (at := connection.scalar(each)) is not None]
    return tally.floor(min(found), HOUR_S) if found else None

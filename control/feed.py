"""Following what happens to jobs, from any process."""

import logging
import threading
from collections.abc import Iterable, Iterator
from typing import Self

from sqlalchemy import insert, select, update

from errors import BadCursor, EventsLost, IllegalTransition, LedgerUnavailable
from ledger import feed as kept
from ledger.engine import Database
from ledger.events import FED, JobEvent, chosen
from ledger.feed import Cursor
from ledger.scope import EVERYTHING, Scope
from ledger.tables import followers

logger = logging.getLogger(__name__)

#: Rows read at a time; so many may be told again to a follower that was killed.
BATCH = 500
#: How soon it is asked again when there was nothing, in seconds; doubled each time, up to the second.
SOONEST_S, LATEST_S = 0.02, 0.5
#: How often a follower to whom nothing is told writes down where it is.
IDLE_COMMIT_S = 10.0


class Feed:
    """What happens to jobs from a cursor on, in order, and each at least once: an iterator that waits for more.

        with Feed(url, "billing", names=["completed"]) as events:
            for event in events:
                ...

    An event is dealt with when the next one is asked for, or at :meth:`commit`.  How far a name has come is written
    down after every batch and at the end, so one that was killed is told up to ``BATCH`` events again.  Two who follow
    by one name at once are both told everything.

    Following turns the feed on, for the whole ledger: what happened before nobody can be told.  While the database
    is away it waits.  For one thread, but for :meth:`close`.

    Parameters:
      name: who follows: the next one of that name goes on where this one committed, the first begins now.
      after: where to begin instead: a cursor that an event had, or "oldest" for all that is kept.
      names: of events, or "dead", "finished"; all when None.
      actor, queue: only what happens to these; scope: only on these queues.
      wait: whether to wait for more, or end when all is told.
      begins: whether following turns the feed on; if not, and it is off, ``IllegalTransition`` is raised.

    Raises:
      UnknownEvent, BadCursor: one of them is something else.
      EventsLost: while iterating; not everything behind the cursor is kept any more.
    """

    def __init__(
        self,
        url: str,
        name: str | None = None,
        *,
        after: str | None = None,
        names: Iterable[str] | None = None,
        actor: str | None = None,
        queue: str | None = None,
        scope: Scope = EVERYTHING,
        wait: bool = True,
        begins: bool = True,
    ) -> None:
        if name is not None:
            check_name(name)
        self.name = name
        self.names = chosen(names, FED, elsewhere="only listeners in the workers are told; use @on")
        self.actor = actor
        self.queue = queue
        self.scope = scope
        self.wait = wait
        self.begins = begins
        if after is not None and after != "oldest":
            Cursor.parse(after)
        self._after = after
        self._database = Database(url)
        self._done: Cursor | None = None  #: everything up to it is dealt with
        self._given: Cursor | None = None  #: and told
        self._committed: Cursor | None = None
        self._closed = threading.Event()

    @property
    def cursor(self) -> str:
        """Everything up to here is dealt with; empty before it began."""
        return "" if self._done is None else str(self._done)

    def __iter__(self) -> Iterator[JobEvent]:
        try:
            yield from self._turns()
        finally:
            self._database.close()

    def _turns(self) -> Iterator[JobEvent]:
        pause_s, idle_s = SOONEST_S, 0.0
        while not self._closed.is_set():
            try:
                page = self._read()
            except LedgerUnavailable as error:
                if not self.wait:
                    raise
                logger.warning("following the feed waits: %s", error)
                self._closed.wait(LATEST_S)
                continue
            for event in page.events:
                if self._wanted(event):
                    self._given = Cursor.parse(event.cursor)
                    yield event
                    self._done = self._given
            self._given = self._done = page.end
            if page.events or idle_s >= IDLE_COMMIT_S or not self.wait:
                self._write()
                pause_s, idle_s = SOONEST_S, 0.0
            if not page.full:
                if not self.wait:
                    return
                self._closed.wait(pause_s)
                idle_s += pause_s
                pause_s = min(pause_s * 2, LATEST_S)

    def page(self) -> tuple[list[JobEvent], bool]:
        """The events among the next ``BATCH`` rows, and whether there may be more already.

        For who keeps :attr:`cursor`, which is behind them then, and asks again, instead of iterating.
        """
        page = self._read()
        self._given = self._done = page.end
        return [event for event in page.events if self._wanted(event)], page.full

    def commit(self) -> None:
        """Write down that all that was told is dealt with, the event of this turn of the loop too.

        Does nothing without a name.  While the database is away it is left to the next one.
        """
        self._done = self._given
        self._write()

    def close(self) -> None:
        """End the iteration, within half a second if it waits.  Any thread; idempotent."""
        self._closed.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
        self._write()
        self._database.close()

    def _wanted(self, event: JobEvent) -> bool:
        fits = self.actor in (None, event.actor) and self.queue in (None, event.queue)
        return fits and self.scope.admits(event.queue)

    def _read(self) -> kept.Page:
        if self._done is None:
            self._given = self._done = self._begin()
        with self._database.read() as connection:
            extent = kept.extent(connection)
            try:
                extent.demand(self._done)
            except EventsLost as error:
                if self.name is None:
                    raise
                remedy = f"`hareline events seek {self.name} oldest|now` says where it is to go on"
                raise EventsLost(f"follower {self.name}: {error}; {remedy}") from None
            return kept.read(connection, self._done, extent, self.names, BATCH, self._database.time(connection))

    def _begin(self) -> Cursor:
        """Where to begin, with the feed on."""
        if self.begins:
            with self._database.write() as connection:
                kept.keep(connection)
        with self._database.read() as connection:
            extent = kept.extent(connection)
            if not (extent.kept or self.begins):
                raise IllegalTransition("nothing is kept for the feed, which is off; somebody who may has to begin it")
            if self._after is not None:
                return Cursor(extent.floor) if self._after == "oldest" else Cursor.parse(self._after)
            stored = connection.scalar(select(followers.c.cursor).where(followers.c.name == self.name))
        if stored is not None:
            return Cursor.parse(stored)
        self._done = extent.end
        self._write()
        return extent.end

    def _write(self) -> None:
        if self.name is None or self._done is None or self._done == self._committed:
            return
        try:
            with self._database.write() as connection:
                values = {"cursor": str(self._done), "seen_at": self._database.time(connection)}
                wanted = followers.c.name == self.name
                if not connection.execute(update(followers).where(wanted).values(values)).rowcount:
                    connection.execute(insert(followers).values(name=self.name, **values))
        except LedgerUnavailable as error:
            logger.warning("follower %s: its place in the feed was not written down: %s", self.name, error)
        else:
            self._committed = self._done


def check_name(name: str) -> None:
    """Raise ``BadCursor`` unless it may name a follower."""
    if not (0 < len(name) <= 200 and name.isprintable() and name.strip() == name):
        raise BadCursor(f"{name!r} names no follower: use up to 200 printable characters, without space around them")

"""What a test is given."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from dramatiq import Actor
from dramatiq.message import Message

from broker import Broker
from hareline_testing.clock import Clock
from hareline_testing.hand import Hand
from hareline_testing.matching import Expected, shown
from hareline_testing.schedules import Ticks
from ledger.engine import Database
from ledger.schedules import Schedule
from ledger.states import FINISHED
from ledger.tables import APPEND_ONLY, metadata
from ledger.views import JobView
from settings import load

#: An actor that sends itself would never be drained.
MOST = 10_000
_PAGE = 500


class Hareline:
    """Your system on a ledger of its own, whose jobs run when a test says so, and whose clock a test moves.

    For one thread.  Nothing of it takes longer than what the jobs do.
    """

    def __init__(self, broker: Broker, hand: Hand, clock: Clock, ticks: Ticks) -> None:
        self.broker = broker
        self._hand = hand
        self._clock = clock
        self._ticks = ticks

    @classmethod
    @contextmanager
    def opened(cls, broker: Broker, schedules: Sequence[Schedule]) -> Iterator[Self]:
        """On the broker's ledger, which is emptied first; connections and threads are gone at the end."""
        clock, hand = Clock(), Hand(broker)
        with clock.in_place():
            hand.prepare()
            _empty(broker.ledger.url)
            try:
                with hand.at_work():
                    yield cls(broker, hand, clock, Ticks(schedules, load(), broker, clock.now))
            finally:
                broker.close()

    # -- running jobs
    def drain(self, queue: str | None = None, *, raises: bool = True) -> int:
        """Run every job that is due, and what those send, in this thread; how many attempts that were.

        By priority within a queue; queues by name.

        Parameters:
          queue: only the jobs of this one.
          raises: raise what an actor raised, once that is recorded; ``Retry``, ``Snooze`` and ``Discard`` are not
            raised: they say how an attempt ends.
        """
        queues = sorted(self.broker.get_declared_queues())
        if queue is not None:
            if queue not in queues:
                raise ValueError(f"no actor is on a queue {queue!r}; the queues are {', '.join(queues)}")
            queues = [queue]
        for attempts in range(MOST):
            ran, raised = self._hand.run_next(queues)
            if not ran:
                return attempts
            if raised is not None and raises:
                raise raised
        raise AssertionError(f"drain() made {MOST:,} attempts and more are due: does an actor send itself?")

    def wait_for(self, job: "Message[Any] | str", timeout: float = 60.0, *, raises: bool = True) -> JobView:
        """Drain, and move the clock to whatever is due next, until this job has ended; all that is known of it.

        Parameters:
          job: a message, or the id of a message or a job.
          timeout: seconds by the ledger's clock; when it has not ended by then, an ``AssertionError`` says how far
            it is.
          raises: as of :meth:`drain`.
        """
        until = self.now + timedelta(seconds=timeout)
        while True:
            self.drain(raises=raises)
            view = self.job(job)
            if view.state in FINISHED:
                return view
            due_s = self._hand.next_due_s()
            due = [self.now + timedelta(seconds=due_s)] if due_s is not None else []
            due += [self._ticks.next_at] if self._ticks.next_at is not None else []
            if not due or min(due) > until:
                story = "\n".join(f"  {line.at:%H:%M:%S} {line.event} {line.text}" for line in view.timeline())
                raise AssertionError(f"job {view.id} is {view.state}, and does not end within {timeout} s:\n{story}")
            self.travel_to(max(self.now, min(due)))

    # -- time
    @property
    def now(self) -> datetime:
        """The ledger's clock."""
        return self._clock.now

    def advance(self, **by: float) -> None:
        """Move the clock: ``advance(hours=2)``, in the words of ``timedelta``.  See :meth:`travel_to`."""
        self.travel_to(self.now + timedelta(**by))

    def travel_to(self, moment: datetime) -> None:
        """Move the clock to ``moment``; schedules that fire on the way enqueue their ticks.  Nothing is run.

        Raises ``ValueError`` for a moment without a time zone, or before now.
        """
        if moment.tzinfo is None:
            raise ValueError(f"{moment} has no time zone; write datetime(…, tzinfo=UTC)")
        if moment < self.now:
            raise ValueError(f"{moment} is over: the ledger's clock, at {self.now}, does not go back")
        while (at := self._ticks.next_at) is not None and at <= moment:
            self._clock.move(at)
            self._ticks.send_next()
        self._clock.move(moment.astimezone(UTC))

    # -- what is there
    def jobs(self) -> list[JobView]:
        """Every job of this test, oldest first, with all that is known of it."""
        ids: list[str] = []
        while page := self.broker.queries.jobs(limit=_PAGE, before=ids[-1] if ids else None):
            ids += [row.id for row in page]
        return [self.job(id) for id in reversed(ids)]

    def job(self, job: "Message[Any] | str") -> JobView:
        """All that is known of one job, by its message, or an id of either; ``AssertionError`` if it is not there."""
        found = self.broker.queries.job(job if isinstance(job, str) else job.message_id)
        if found is None:
            raise AssertionError(f"no job has the id, or the message, {job}; there is\n{shown(self.jobs())}")
        return found

    def assert_enqueued(
        self, actor: Actor[Any, Any], *args: Any, count: int | None = None, **kwargs: Any
    ) -> list[JobView]:
        """Jobs of this actor with these arguments were recorded, whatever has become of them; those jobs.

        Parameters:
          args, kwargs: some of the arguments; others may be anything.
          count: exactly so many; at least one, if it is not said.
        """
        __tracebackhide__ = True
        expected, jobs = Expected(actor, args, kwargs, self.broker.encryption), self.jobs()
        found = [job for job in jobs if expected.fits(job)]
        if len(found) == count or (count is None and found):
            return found
        wanted = "at least one job" if count is None else f"{count} jobs"
        raise AssertionError(f"expected {wanted} {expected}, found {len(found)}; enqueued were\n{shown(jobs)}")

    def assert_not_enqueued(self, actor: Actor[Any, Any], *args: Any, **kwargs: Any) -> None:
        """No job of this actor with these arguments was recorded."""
        __tracebackhide__ = True
        self.assert_enqueued(actor, *args, count=0, **kwargs)


def _empty(url: str) -> None:
    database = Database(url)
    with database.write() as connection:
        for table in (table for table in metadata.sorted_tables if table not in APPEND_ONLY):
            connection.execute(table.delete())
    database.close()

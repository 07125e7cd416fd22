"""What is not finished yet: counted in one walk over the hot table, which ends somewhere."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Connection, func, select

from ledger.search import Bounded
from ledger.states import State
from ledger.tables import jobs

#: So many jobs are looked at.
WALK = 1_000_000


@dataclass(frozen=True)
class Part:
    """The jobs of one queue in one state, tried before or not."""

    queue: str
    state: State
    tried: bool
    number: int
    due: datetime  #: of the one that is due first


@dataclass(frozen=True)
class Backlog:
    parts: Sequence[Part]
    more: bool  #: than was walked over

    def of(self, queue: str) -> "Backlog":
        return replace(self, parts=[part for part in self.parts if part.queue == queue])

    def count(self, state: State, *, tried: bool | None = None) -> Bounded:
        """How many are in this state; only those that were tried before, or were not."""
        fitting = (part for part in self.parts if part.state is state and tried in (None, part.tried))
        return Bounded(sum(part.number for part in fitting), self.more)

    @property
    def oldest(self) -> datetime | None:
        """Since when the oldest waits."""
        return min((part.due for part in self.parts if part.state is State.WAITING), default=None)


def backlog(connection: Connection, queues: Collection[str] | None) -> Backlog:
    """Of all queues, or of these."""
    tried = (jobs.c.attempts > 0).label("tried")
    walk = select(jobs.c.queue, jobs.c.state, tried, jobs.c.run_at).where(jobs.c.finished_at.is_(None))
    if queues is not None:
        walk = walk.where(jobs.c.queue.in_(queues))
    some = walk.limit(WALK + 1).subquery()
    kinds = (some.c.queue, some.c.state, some.c.tried)
    asked = select(*kinds, func.count().label("number"), func.min(some.c.run_at).label("due")).group_by(*kinds)
    found = [Part(x.queue, State(x.state), bool(x.tried), x.number, x.due) for x in connection.execute(asked)]
    return Backlog(found, sum(part.number for part in found) > WALK)

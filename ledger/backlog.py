"""What is not finished yet: counted in one walk over the hot table, which ends somewhere."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, func, select

from ledger.search import Bounded
from ledger.states import State
from ledger.tables import jobs

#: So many jobs are looked at.
WALK = 1_000_000
_UNDONE = select(jobs.c.queue, jobs.c.state, (jobs.c.attempts > 0).label("tried"), jobs.c.run_at).where(
    jobs.c.finished_at.is_(None)
)


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
    more: bool  #: there are at least so many

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

    def and_first(self, first: "Backlog") -> "Backlog":
        """What this and a count of the jobs that were sent first know of the same queue together."""
        if not first.more:
            return first
        kinds: dict[tuple[State, bool], list[Part]] = {}
        for part in (*self.parts, *first.parts):
            kinds.setdefault((part.state, part.tried), []).append(part)
        return replace(
            self,
            parts=[
                replace(some[0], number=max(x.number for x in some), due=min(x.due for x in some))
                for some in kinds.values()
            ],
        )


def backlog(connection: Connection, queues: Collection[str] | None) -> Backlog:
    """Of all queues, or of these."""
    return _counted(connection, _UNDONE if queues is None else _UNDONE.where(jobs.c.queue.in_(queues)), WALK)


def first(connection: Connection, queue: str, most: int) -> Backlog:
    """Of the jobs of a queue those that were sent first."""
    its = _UNDONE.where(jobs.c.queue == queue).order_by(jobs.c.queue, jobs.c.id)
    return _counted(connection, its, most)


def _counted(connection: Connection, walk: Select[Any], most: int) -> Backlog:
    some = walk.limit(most).subquery()
    kinds = (some.c.queue, some.c.state, some.c.tried)
    asked = select(*kinds, func.count().label("number"), func.min(some.c.run_at).label("due")).group_by(*kinds)
    found = [Part(x.queue, State(x.state), bool(x.tried), x.number, x.due) for x in connection.execute(asked)]
    return Backlog(found, sum(part.number for part in found) == most)

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
_UNDONE = select(jobs.c.queue, jobs.c.state, jobs.c.attempts, jobs.c.run_at).where(jobs.c.finished_at.is_(None))


@dataclass(frozen=True)
class Part:
    """The jobs of one queue in one state."""

    queue: str
    state: State
    number: int
    tried: int  #: of them, those that were tried before
    due: datetime  #: of the one that is due first

    def count(self, tried: bool | None) -> int:
        return self.number if tried is None else self.tried if tried else self.number - self.tried


@dataclass(frozen=True)
class Backlog:
    parts: Sequence[Part]
    more: bool  #: there are at least so many

    def of(self, queue: str) -> "Backlog":
        return replace(self, parts=[part for part in self.parts if part.queue == queue])

    def count(self, state: State, *, tried: bool | None = None) -> Bounded:
        """How many are in this state; only those that were tried before, or were not."""
        return Bounded(sum(part.count(tried) for part in self.parts if part.state is state), self.more)

    @property
    def oldest(self) -> datetime | None:
        """Since when the oldest waits."""
        return min((part.due for part in self.parts if part.state is State.WAITING), default=None)

    def and_first(self, first: "Backlog") -> "Backlog":
        """What this and a count of the jobs that were sent first know of the same queue together."""
        if not first.more:
            return first
        kinds: dict[State, list[Part]] = {}
        for part in (*self.parts, *first.parts):
            kinds.setdefault(part.state, []).append(part)
        return replace(
            self,
            parts=[
                replace(max(some, key=lambda part: part.number), due=min(part.due for part in some))
                for some in kinds.values()
            ],
        )


def backlog(connection: Connection, queues: Collection[str] | None) -> Backlog:
    """Of all queues, or of these."""
    return _counted(connection, _UNDONE if queues is None else _UNDONE.where(jobs.c.queue.in_(queues)), WALK)


def first(connection: Connection, queue: str, most: int) -> Backlog:
    """Of the jobs of a queue those that were sent first."""
    return _counted(connection, _first(queue), most)


def reaching(connection: Connection, queue: str, state: State, most: int, walk: int) -> Backlog:
    """Of the jobs of a queue that were sent first those in this state, up to so many; ``walk`` jobs are looked at."""
    its = _first(queue).limit(walk).subquery()
    return replace(_counted(connection, select(its).where(its.c.state == state), most), more=True)


def _first(queue: str) -> Select[Any]:
    return _UNDONE.where(jobs.c.queue == queue).order_by(jobs.c.queue, jobs.c.id)


def _counted(connection: Connection, walk: Select[Any], most: int) -> Backlog:
    some = walk.limit(most).subquery()
    kinds = (some.c.queue, some.c.state)
    numbers = (func.count().label("number"), func.count().filter(some.c.attempts > 0).label("tried"))
    rows = connection.execute(select(*kinds, *numbers, func.min(some.c.run_at).label("due")).group_by(*kinds))
    found = [Part(row.queue, State(row.state), row.number, row.tried, row.due) for row in rows]
    return Backlog(found, sum(part.number for part in found) == most)

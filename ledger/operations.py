"""Bulk operations as the ledger has them."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from itertools import islice
from typing import Any, Literal, NamedTuple

from sqlalchemy import Connection, Row, select

from ledger.scope import Scope
from ledger.search import Bounded, Filter
from ledger.states import FINISHED, LIVE, State
from ledger.tables import operations


class Deed(StrEnum):
    """What may be done to many jobs."""

    RETRY = "retry"
    CANCEL = "cancel"
    DISCARD = "discard"
    REMOVE = "remove"
    RUN_NOW = "run_now"


#: The states of jobs to which each is done.
STATES: dict[Deed, frozenset[State]] = {
    Deed.RETRY: frozenset({State.FAILED, State.CANCELLED}),
    Deed.CANCEL: LIVE,
    Deed.DISCARD: frozenset({State.FAILED}),
    Deed.REMOVE: FINISHED,
    Deed.RUN_NOW: frozenset({State.DELAYED}),
}
#: And those that are meant when the filter names none.
MEANT: dict[Deed, frozenset[State]] = STATES | {Deed.RETRY: frozenset({State.FAILED})}


class Trouble(NamedTuple):
    """A job to which it could not be done."""

    job: str
    why: str


@dataclass(frozen=True)
class OperationView:
    id: str  #: empty: it was only tried
    verb: Deed
    filter: Filter
    state: Literal["running", "done", "cancelled", "tried"]
    expected: Bounded  #: jobs that fitted when it was begun
    done: int
    skipped: int  #: had moved on to another state, or were gone
    failed: int
    troubles: Sequence[Trouble]  #: the first of those that failed
    created_at: datetime
    created_by: str
    changed_at: datetime
    finished_at: datetime | None = None
    cancelled_by: str | None = None

    def within(self, scope: Scope) -> bool:
        """Whether it is about queues of a scope only."""
        return not scope.limited or Scope(self.filter.scopes).within(scope)

    @property
    def seen(self) -> int:
        """Jobs it has dealt with."""
        return self.done + self.skipped + self.failed

    @property
    def progress(self) -> float:
        """0 to 1."""
        if self.finished_at is not None and self.state != "cancelled":
            return 1.0
        return min(0.99, self.seen / self.expected.count) if self.expected.count else 0.0


def view(row: Row[Any]) -> OperationView:
    same = ("id", "state", "done", "skipped", "failed", "created_at", "created_by", "changed_at", "finished_at")
    return OperationView(
        **{name: getattr(row, name) for name in same},
        cancelled_by=row.cancelled_by,
        verb=Deed(row.verb),
        filter=Filter.from_json(row.filter),
        expected=Bounded(row.expected, bool(row.more)),
        troubles=[Trouble(*trouble) for trouble in json.loads(row.troubles)],
    )


def find(connection: Connection, id: str) -> OperationView | None:
    row = connection.execute(select(operations).where(operations.c.id == id)).one_or_none()
    return view(row) if row else None


def listing(
    connection: Connection, limit: int, before: str | None, scope: Scope, *, open_only: bool
) -> list[OperationView]:
    """Newest first.  What is of a scope only the filter tells, which is read: a page at a time."""

    def pages(before: str | None) -> Iterator[OperationView]:
        wanted = select(operations).order_by(operations.c.id.desc()).limit(limit)
        if open_only:
            wanted = wanted.where(operations.c.finished_at.is_(None))
        while True:
            page = wanted if before is None else wanted.where(operations.c.id < before)
            rows = connection.execute(page).all()
            yield from map(view, rows)
            if len(rows) < limit:
                return
            before = rows[-1].id

    return list(islice((it for it in pages(before) if it.within(scope)), limit))

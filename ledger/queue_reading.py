"""Queues as people and programs read them: names, counts by state, who paused them."""

from collections import defaultdict
from datetime import datetime

from sqlalchemy import Connection, func, select

from ledger import finder
from ledger.queue_stats import ended
from ledger.scope import Scope
from ledger.states import State
from ledger.tables import jobs, queues
from ledger.views import QueueView


def names(connection: Connection, scope: Scope, wanted: str | None = None) -> list[str] | None:
    """The queues that may be seen, or of these only the one wanted; None: all."""
    if not scope.limited:
        return None if wanted is None else [wanted]
    if wanted is not None:
        return [wanted] if scope.admits(wanted) else []
    return [name for name in finder.queues(connection) if scope.admits(name)]


def known(connection: Connection, scope: Scope) -> list[str]:
    """Every queue with jobs, in the history too, and those that operators have changed, by name: a probe for each."""
    return sorted(filter(scope.admits, {*finder.queues(connection), *connection.scalars(select(queues.c.name))}))


def counts(connection: Connection, scope: Scope) -> dict[str, dict[State, int]]:
    """How many jobs of the hot table each queue has in each state; states with none are left out."""
    asked = select(jobs.c.queue, jobs.c.state, func.count()).where(scope.clause(jobs.c.queue))
    found: dict[str, dict[State, int]] = defaultdict(dict)
    for queue, state, count in connection.execute(asked.group_by(jobs.c.queue, jobs.c.state)):
        found[queue][State(state)] = count
    return dict(found)


def listing(connection: Connection, now: datetime, scope: Scope) -> list[QueueView]:
    """Every queue that has jobs in the hot table or was ever paused, by name.

    Of completed and dead ones also those in the history are counted, up to a bound.
    """
    counted = counts(connection, scope)
    waiting = select(jobs.c.queue, func.min(jobs.c.run_at)).where(jobs.c.state == State.WAITING)
    oldest = dict(connection.execute(waiting.group_by(jobs.c.queue)).all())
    known = {row.name: row for row in connection.execute(select(queues).where(scope.clause(queues.c.name)))}
    for name, done in ended(connection, sorted(counted.keys() | known.keys())).items():
        at_hand = counted.get(name, {})
        larger = {state: max(it.count, at_hand.get(state, 0)) for state, it in done.items() if it.count}
        counted[name] = at_hand | larger
    return [
        QueueView(
            name=name,
            paused=bool(known[name].paused) if name in known else False,
            paused_at=known[name].paused_at if name in known else None,
            paused_by=known[name].paused_by if name in known else None,
            counts=counted.get(name, {}),
            oldest_waiting_s=max(0.0, (now - oldest[name]).total_seconds()) if name in oldest else None,
        )
        for name in sorted(counted.keys() | known.keys())
    ]

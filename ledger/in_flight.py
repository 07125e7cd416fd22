"""How many jobs RabbitMQ should hold a message for."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Connection, func, literal_column, or_, select

from ledger.states import State
from ledger.tables import jobs, tickets


@dataclass(frozen=True, slots=True)
class InFlight:
    """One queue of the ledger, as far as messages go."""

    waiting: int = 0
    unsent: int = 0  #: of what may be waiting: without a confirmed message; some may be delayed and due soon
    active: int = 0
    failed: int = 0  #: at hand: each has a letter in the dead-letter queue


def in_flight(connection: Connection, now: datetime, soon_s: float) -> dict[str, InFlight]:
    """By queue.  Looks at every row of the hot table."""
    found: dict[str, dict[str, int]] = {}
    told = (State.WAITING, State.ACTIVE, State.FAILED)
    states = select(jobs.c.queue, jobs.c.state, func.count()).where(jobs.c.state.in_(told))
    for queue, state, count in connection.execute(states.group_by(jobs.c.queue, jobs.c.state)):
        found.setdefault(queue, {})[str(state)] = count
    # One that is being sent is due again when RabbitMQ should have confirmed it; one that a pause holds back, never.
    forever = "'infinity'::timestamptz" if connection.dialect.name == "postgresql" else str(2**63 - 1)
    never: ColumnElement[datetime] = literal_column(forever)
    soon = or_(tickets.c.due_at <= now + timedelta(seconds=soon_s), tickets.c.due_at == never)
    unsent = select(tickets.c.queue, func.count()).where(~tickets.c.ready, soon).group_by(tickets.c.queue)
    for queue, count in connection.execute(unsent):
        found.setdefault(queue, {})["unsent"] = count
    return {queue: InFlight(**counts) for queue, counts in found.items()}

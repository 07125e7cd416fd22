"""A job's row, locked, before a verb changes it."""

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import select

from control.transaction import Transaction
from errors import IllegalTransition, JobNotFound
from ledger.lookup import find
from ledger.states import TRANSITIONS, Event, State
from ledger.tables import history, jobs, payloads


@dataclass(frozen=True)
class Locked:
    """What a verb must know of a job whose row it holds until it commits."""

    id: str
    message_id: str
    queue: str
    actor: str
    priority: int
    state: State
    ticket: int
    archived: bool  #: its row is in history


def lock(tx: Transaction, ref: str) -> Locked:
    """The job a person means, its row locked.  Raises ``JobNotFound``."""
    [job] = lock_all(tx, [ref])
    return job


def lock_all(tx: Transaction, refs: Iterable[str]) -> list[Locked]:
    """The jobs a person means, each once, locked in the order of their ids.  Raises ``JobNotFound``."""
    ids = {find(tx.connection, ref) or "": ref for ref in refs}
    found = {id: lock_id(tx, id) for id in sorted(ids) if id}
    for id, ref in ids.items():
        if not id or found[id] is None:
            raise JobNotFound(f"no job {ref!r}: give its id, at least 8 characters of it, or its Dramatiq message id")
    return [job for job in found.values() if job]


def lock_id(tx: Transaction, id: str) -> Locked | None:
    live = (jobs.c.id, payloads.c.message_id, jobs.c.queue, jobs.c.actor, jobs.c.priority, jobs.c.state, jobs.c.ticket)
    hot = (
        select(*live)
        .join_from(jobs, payloads, payloads.c.job_id == jobs.c.id)
        .where(jobs.c.id == id)
        .with_for_update(of=jobs)
    )
    # Twice: between the two looks, retention may have moved it to history, or a retry brought it back.
    for _ in range(2):
        if row := tx.connection.execute(hot).one_or_none():
            state = State(row.state)
            return Locked(row.id, row.message_id, row.queue, row.actor, row.priority, state, row.ticket, False)
        if row := tx.connection.execute(select(history).where(history.c.id == id).with_for_update()).one_or_none():
            state = State(row.state)
            return Locked(row.id, row.message_id, row.queue, row.actor, row.priority, state, 0, True)
    return None


def demand(job: Locked, event: Event, to: State, remedies: dict[State, str]) -> None:
    """Raise ``IllegalTransition`` unless ``ledger.states`` lets ``event`` take the job to ``to``."""
    if (job.state, to) not in TRANSITIONS[event]:
        raise IllegalTransition(f"job {job.id} is {job.state}: {remedies[job.state]}")

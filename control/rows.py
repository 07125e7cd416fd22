"""A job's row, locked, before a verb changes it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, select

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
    ids = {find(tx.connection, ref, tx.scope) or "": ref for ref in refs}
    found = {job.id: job for job in lock_ids(tx, [id for id in ids if id])}
    for id, ref in ids.items():
        if id not in found:
            raise JobNotFound(f"no job {ref!r}: give its id, at least 8 characters of it, or its Dramatiq message id")
    return list(found.values())


def lock_ids(tx: Transaction, ids: Sequence[str]) -> list[Locked]:
    """Of the jobs with these ids those that are there, locked in the order of their ids.

    For who is confined to some queues, jobs of others are not there.
    """
    found: dict[str, Locked] = {}
    # Hot twice: between the two looks, retention may have moved one to history, or a retry brought it back.
    for table in (jobs, history, jobs):
        left = [id for id in ids if id not in found]
        if not left:
            break
        wanted: Select[Any] = (
            select(jobs, payloads.c.message_id).join_from(jobs, payloads, payloads.c.job_id == jobs.c.id)
            if table is jobs
            else select(history)
        )
        wanted = (
            wanted.where(table.c.id.in_(left), tx.scope.clause(table.c.queue))
            .order_by(table.c.id)
            .with_for_update(of=table)
        )
        for row in tx.connection.execute(wanted):
            archived = table is history
            shared = (row.id, row.message_id, row.queue, row.actor, row.priority, State(row.state))
            found[row.id] = Locked(*shared, 0 if archived else row.ticket, archived)
    return [found[id] for id in sorted(found)]


def demand(job: Locked, event: Event, to: State, remedies: dict[State, str]) -> None:
    """Raise ``IllegalTransition`` unless ``ledger.states`` lets ``event`` take the job to ``to``."""
    if (job.state, to) not in TRANSITIONS[event]:
        raise IllegalTransition(f"job {job.id} is {job.state}: {remedies[job.state]}")

"""Verbs for single jobs, and for all of a kind."""

import json
from collections.abc import Callable
from typing import Literal

from sqlalchemy import Table, delete, func, insert, select, update

from control import gates
from control.rows import Locked, demand, lock, lock_id
from control.transaction import Control, Transaction
from control.who import By
from errors import IllegalTransition
from ledger.flows.states import OPTION, ItemState
from ledger.states import FINISHED, Event, Reason, State
from ledger.tables import (
    attempts,
    checkpoints,
    expiries,
    flow_jobs,
    history,
    jobs,
    payloads,
    progress,
    results,
    tickets,
    uniques,
)

_BATCH = 500  #: jobs in one transaction: their rows are locked until it commits

_NO_RETRY = {
    State.WAITING: "it runs as soon as a worker is free; there is nothing to retry",
    State.ACTIVE: "it is running; wait for it, or cancel it first",
    State.COMPLETED: "it is done; to run it again, enqueue a new job",
}
_NO_CANCEL = dict.fromkeys(FINISHED, "it is finished; there is nothing to cancel")


def retry(control: Control, ref: str, *, by: By) -> str:
    """Send a failed, cancelled or delayed job round now; returns its id.

    A failed or cancelled one starts anew: attempts, crashes and charges count from 0; its checkpoint is kept.  One in
    history comes back from there, without one.  One of a sequence stands in line again, at the end, unless it kept its
    place.  Raises ``JobNotFound``, ``IllegalTransition``.
    """
    return control.run(lambda tx: retry_locked(tx, lock(tx, ref)), by=by)


def retry_many(
    control: Control,
    *,
    state: State = State.FAILED,
    queue: str | None = None,
    actor: str | None = None,
    reason: Reason | None = None,
    limit: int | None = None,
    by: By,
) -> list[str]:
    """Retry every job that fits, history included; returns their ids.  In batches, each one transaction."""
    return each(control, retry_locked, state, queue=queue, actor=actor, reason=reason, limit=limit, by=by)


def cancel(control: Control, ref: str, *, by: By) -> Literal["cancelled", "requested"]:
    """Cancel a job: at once when it is not running; else ask it to stop (``requested``).

    A running job that is asked ends as cancelled unless it completes or fails first; no retry, no crash brings it
    back.  Asking twice is the same as once.  Raises ``JobNotFound``, ``IllegalTransition``.
    """

    def verb(tx: Transaction) -> Literal["cancelled", "requested"]:
        job = lock(tx, ref)
        demand(job, Event.CANCELLED, State.CANCELLED, _NO_CANCEL)
        if job.state is State.ACTIVE:
            tx.connection.execute(update(jobs).where(jobs.c.id == job.id).values(cancel_requested=True))
            tx.note(job.id, "cancel_requested", {})
            return "requested"
        _cancel_locked(tx, job)
        return "cancelled"

    return control.run(verb, by=by)


def cancel_waiting(url: str, queue: str, *, by: By) -> int:
    """Cancel every job of ``queue`` that is not running; returns how many."""
    control = Control(url, "embedded")  # no ticket is made, so the road does not matter
    try:
        return sum(
            len(each(control, _cancel_locked, state, queue=queue, by=by)) for state in (State.WAITING, State.DELAYED)
        )
    finally:
        control.close()


def remove(control: Control, ref: str, *, by: By) -> str:
    """Forget a finished job with all that belongs to it but its journal; returns its id.

    Raises ``JobNotFound``, ``IllegalTransition``.
    """

    def verb(tx: Transaction) -> str:
        job = lock(tx, ref)
        if job.state not in FINISHED:
            raise IllegalTransition(f"job {job.id} is {job.state}: only a finished job can be removed; cancel it first")
        return remove_locked(tx, job, "removed")

    return control.run(verb, by=by)


def each(
    control: Control,
    verb: Callable[[Transaction, Locked], str],
    state: State,
    *,
    queue: str | None = None,
    actor: str | None = None,
    reason: Reason | None = None,
    limit: int | None = None,
    by: By,
) -> list[str]:
    """``verb`` on every job in ``state`` that fits, oldest first, ``_BATCH`` to a transaction; their ids."""

    def page(tx: Transaction, table: Table, after: str, room: int) -> tuple[str, list[str]]:
        wanted = select(table.c.id).where(table.c.state == state, table.c.id > after).order_by(table.c.id).limit(room)
        for column, value in (("queue", queue), ("actor", actor), ("reason", reason)):
            if value is not None:
                wanted = wanted.where(table.c[column] == value)
        ids = list(tx.connection.scalars(wanted))
        # In the order of ids, as everyone locks; a job that moved on since it was listed is left alone.
        locked = [job for id in ids if (job := lock_id(tx, id)) and job.state is state]
        if verb is retry_locked:
            locked = [job for job in locked if _flow_without(tx, job) is None]  # `hareline flows retry` is for those
        return (ids[-1] if ids else ""), [verb(tx, job) for job in locked]

    done: list[str] = []
    for table in (jobs, history) if state in FINISHED else (jobs,):
        after = "00000000-0000-0000-0000-000000000000"
        while after and (room := _BATCH if limit is None else min(_BATCH, limit - len(done))) > 0:
            after, some = control.run(lambda tx, t=table, a=after, r=room: page(tx, t, a, r), by=by)  # type: ignore[misc]
            done += some
    return done


def retry_locked(tx: Transaction, job: Locked) -> str:
    if flow := _flow_without(tx, job):
        raise IllegalTransition(f"job {job.id} is a step of flow {flow}, which ended without it: retry that instead")
    demand(job, Event.RETRIED, State.WAITING, _NO_RETRY)
    _expire_later(tx, job.id)
    ticket = _bring_back(tx, job) if job.archived else job.ticket + 1
    called = gates.turn(tx, job.id, job.state)
    anew = {"attempts": 0, "crashes": 0, "charges": 0} if job.state is not State.DELAYED else {}
    tx.connection.execute(
        update(jobs)
        .where(jobs.c.id == job.id)
        .values(
            state=State.WAITING if called else State.DELAYED,
            ticket=ticket,
            run_at=tx.now,
            finished_at=None,
            reason=None,
            cancel_requested=False,
            **anew,
        )
    )
    tx.connection.execute(delete(tickets).where(tickets.c.job_id == job.id))
    if called:
        tx.connection.execute(
            insert(tickets).values(
                job_id=job.id,
                queue=job.queue,
                priority=job.priority,
                ticket=ticket,
                ready=tx.embedded,
                due_at=tx.now,
            )
        )
    for table in (progress, results):
        tx.connection.execute(delete(table).where(table.c.job_id == job.id))
    tx.note(job.id, Event.RETRIED, {"was": job.state})
    return job.id


def _expire_later(tx: Transaction, id: str) -> None:
    """The time in which it is to be tried counts from now, when it becomes due."""
    timed = select(expiries.c.at, jobs.c.run_at).join_from(expiries, jobs, expiries.c.job_id == jobs.c.id)
    if row := tx.connection.execute(timed.where(jobs.c.id == id)).one_or_none():
        later = update(expiries).where(expiries.c.job_id == id).values(at=row.at - row.run_at + tx.now)
        tx.connection.execute(later)


def _flow_without(tx: Transaction, job: Locked) -> str | None:
    """The flow whose step the job was; while it still is, it may be retried as any."""
    table = history if job.archived else payloads
    key = table.c.id if table is history else table.c.job_id
    body = tx.connection.scalar(select(table.c.body).where(key == job.id)) or b""
    if f'"{OPTION}"'.encode() not in body:
        return None
    live = (flow_jobs.c.job_id == job.id) & (flow_jobs.c.state == ItemState.LIVE)
    if tx.connection.scalar(select(flow_jobs.c.job_id).where(live)) is not None:
        return None
    return str(json.loads(body)["options"][OPTION]["id"])


def remove_locked(tx: Transaction, job: Locked, event: str) -> str:
    gates.forget(tx, job.id)
    for table in (tickets, payloads, attempts, progress, checkpoints, results, uniques, expiries):
        tx.connection.execute(delete(table).where(table.c.job_id == job.id))
    for table in (jobs, history):
        tx.connection.execute(delete(table).where(table.c.id == job.id))
    what = {"queue": job.queue, "actor": job.actor, "message_id": job.message_id, "was": job.state}
    tx.note(job.id, event, what)
    return job.id


def _cancel_locked(tx: Transaction, job: Locked) -> str:
    tx.connection.execute(
        update(jobs)
        .where(jobs.c.id == job.id)
        .values(state=State.CANCELLED, finished_at=tx.now, cancel_requested=False)
    )
    tx.connection.execute(delete(tickets).where(tickets.c.job_id == job.id))
    gates.leave(tx, job.id)
    tx.note(job.id, Event.CANCELLED, {"was": job.state})
    return job.id


def _bring_back(tx: Transaction, job: Locked) -> int:
    """From history to the hot table; returns its ticket.

    History does not keep the counters.  The epoch must be one no attempt has; an old message that has this very
    ticket would run the job once, as was asked.
    """
    last = tx.connection.scalar(select(func.max(attempts.c.epoch)).where(attempts.c.job_id == job.id)) or 0
    row = tx.connection.execute(select(history).where(history.c.id == job.id)).one()
    shared = ("id", "queue", "actor", "priority", "state", "reason", "created_at", "run_at", "finished_at")
    values = {name: getattr(row, name) for name in shared}
    tx.connection.execute(insert(jobs).values(**values, epoch=last + 1, ticket=last + 1))
    tx.connection.execute(
        insert(payloads).values(job_id=row.id, message_id=row.message_id, body=row.body, producer=row.producer)
    )
    tx.connection.execute(delete(history).where(history.c.id == job.id))
    return last + 1

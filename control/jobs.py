"""Verbs for single jobs, and for all of a kind."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from sqlalchemy import Table, delete, func, insert, select, update

from control import gates
from control.rows import Locked, demand, lock, lock_ids
from control.transaction import Control, Transaction
from control.who import By
from errors import IllegalTransition
from ledger.flows.states import OPTION, ItemState
from ledger.lookup import newest_of_message
from ledger.states import FINISHED, Event, Reason, State
from ledger.tables import (
    attempts,
    checkpoints,
    edits,
    expiries,
    failures,
    flow_jobs,
    history,
    jobs,
    payloads,
    progress,
    results,
    search_texts,
    tickets,
    uniques,
)
from ledger.text import FIRST_ID

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
    return each(control, retry_all, state, queue=queue, actor=actor, reason=reason, limit=limit, by=by)


def run_now(control: Control, ref: str, *, by: By) -> str:
    """Let a delayed job run as soon as a worker is free; its attempts go on.  Returns its id.

    Raises ``JobNotFound``, ``IllegalTransition``.
    """

    def verb(tx: Transaction) -> str:
        job = lock(tx, ref)
        if job.state is not State.DELAYED:
            remedy = _NO_RETRY.get(job.state, "`hareline jobs retry` sends it round again")
            raise IllegalTransition(f"job {job.id} is {job.state}, not delayed: {remedy}")
        return retry_locked(tx, job)

    return control.run(verb, by=by)


def lock_for_edit(tx: Transaction, ref: str) -> tuple[Locked, bytes]:
    """The job a person means to send again with changes, and its message.  One that runs must end first."""
    job = lock(tx, ref)
    if job.state is State.ACTIVE:
        raise IllegalTransition(f"job {job.id} is running; wait for it, or cancel it first")
    table, key = (history, history.c.id) if job.archived else (payloads, payloads.c.job_id)
    return job, bytes(tx.connection.execute(select(table.c.body).where(key == job.id)).scalar_one())


def link(tx: Transaction, origin: Locked, message_id: str) -> str:
    """Say of the job just recorded with this message that it is a changed copy; returns its id."""
    new = newest_of_message(tx.connection, message_id)
    if new is None or new == origin.id:
        raise IllegalTransition(
            f"job {origin.id} is unique, and another one holds its key: nothing was recorded; cancel that, or wait"
        )
    tx.connection.execute(insert(edits).values(job_id=new, origin_id=origin.id, at=tx.now, by=tx.by))
    tx.note(origin.id, "edited", {"into": new})
    tx.note(new, "edited", {"from": origin.id})
    return new


def cancel(control: Control, ref: str, *, by: By) -> Literal["cancelled", "requested"]:
    """Cancel a job: at once when it is not running; else ask it to stop (``requested``).

    A running job that is asked ends as cancelled unless it completes or fails first; no retry, no crash brings it
    back.  Asking twice is the same as once.  Raises ``JobNotFound``, ``IllegalTransition``.
    """

    def verb(tx: Transaction) -> Literal["cancelled", "requested"]:
        job = lock(tx, ref)
        demand(job, Event.CANCELLED, State.CANCELLED, _NO_CANCEL)
        cancel_all(tx, [job])
        return "requested" if job.state is State.ACTIVE else "cancelled"

    return control.run(verb, by=by)


def cancel_waiting(url: str, queue: str, *, by: By) -> int:
    """Cancel every job of ``queue`` that is not running; returns how many."""
    control = Control(url, "embedded")  # no ticket is made, so the road does not matter
    try:
        return sum(
            len(each(control, cancel_all, state, queue=queue, by=by)) for state in (State.WAITING, State.DELAYED)
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
    verb: Callable[[Transaction, Sequence[Locked]], Mapping[str, str]],
    state: State,
    *,
    queue: str | None = None,
    actor: str | None = None,
    reason: Reason | None = None,
    limit: int | None = None,
    by: By,
) -> list[str]:
    """``verb`` on every job in ``state`` that fits, oldest first, ``_BATCH`` to a transaction; their ids.

    Those that the verb refuses are left alone.
    """

    def page(tx: Transaction, table: Table, after: str, room: int) -> tuple[str, list[str]]:
        if queue is not None:
            tx.scope.demand(queue)
        wanted = select(table.c.id).where(table.c.state == state, table.c.id > after).order_by(table.c.id).limit(room)
        for column, value in (("queue", queue), ("actor", actor), ("reason", reason)):
            if value is not None:
                wanted = wanted.where(table.c[column] == value)
        ids = list(tx.connection.scalars(wanted))
        # In the order of ids, as everyone locks; a job that moved on since it was listed is left alone.
        locked = [job for job in lock_ids(tx, ids) if job.state is state]
        refused = verb(tx, locked)
        return (ids[-1] if ids else ""), [job.id for job in locked if job.id not in refused]

    done: list[str] = []
    for table in (jobs, history) if state in FINISHED else (jobs,):
        after = FIRST_ID
        while after and (room := _BATCH if limit is None else min(_BATCH, limit - len(done))) > 0:
            after, some = control.run(lambda tx, t=table, a=after, r=room: page(tx, t, a, r), by=by)  # type: ignore[misc]
            done += some
    return done


def retry_locked(tx: Transaction, job: Locked) -> str:
    """As of many; raises why it cannot be."""
    for why in retry_all(tx, [job]).values():
        raise IllegalTransition(why)
    return job.id


def retry_all(tx: Transaction, locked: Sequence[Locked]) -> dict[str, str]:
    """Send jobs round again, which are locked; those that cannot be, and why.  Nothing of them is changed."""
    refused: dict[str, str] = {}
    ready: list[Locked] = []
    without = _flows_without(tx, locked)
    for job in locked:
        try:
            if flow := without.get(job.id):
                raise IllegalTransition(
                    f"job {job.id} is a step of flow {flow}, which ended without it: retry that instead"
                )
            demand(job, Event.RETRIED, State.WAITING, _NO_RETRY)
            gates.demand_turn(tx, job.id, job.state)
        except IllegalTransition as error:
            refused[job.id] = str(error)
        else:
            ready.append(job)
    if not ready:
        return refused
    ids = [job.id for job in ready]
    _expire_later(tx, ids)
    numbers = {job.id: job.ticket + 1 for job in ready} | _bring_back(tx, [job.id for job in ready if job.archived])
    called = gates.turns(tx, ids)
    for state, some in ((State.WAITING, called), (State.DELAYED, set(ids) - called)):
        for was_delayed in (False, True):
            same = [job.id for job in ready if job.id in some and (job.state is State.DELAYED) is was_delayed]
            if same:
                anew = {} if was_delayed else {"attempts": 0, "crashes": 0, "charges": 0}
                tx.connection.execute(
                    update(jobs)
                    .where(jobs.c.id.in_(same))
                    .values(
                        state=state,
                        # One that was brought back has the ticket it came with.
                        ticket=jobs.c.ticket + 1,
                        run_at=tx.now,
                        finished_at=None,
                        reason=None,
                        cancel_requested=False,
                        **anew,
                    )
                )
    tx.connection.execute(delete(tickets).where(tickets.c.job_id.in_(ids)))
    due = [
        {
            "job_id": job.id,
            "queue": job.queue,
            "priority": job.priority,
            "ticket": numbers[job.id],
            "ready": tx.embedded,
            "due_at": tx.now,
        }
        for job in ready
        if job.id in called
    ]
    if due:
        tx.connection.execute(insert(tickets), due)
    for table in (progress, results, failures):
        tx.connection.execute(delete(table).where(table.c.job_id.in_(ids)))
    tx.note_jobs(Event.RETRIED, [(job.id, {"was": job.state}) for job in ready])
    return refused


def _expire_later(tx: Transaction, ids: Sequence[str]) -> None:
    """The time in which each is to be tried counts from now, when it becomes due."""
    timed = select(expiries.c.job_id, expiries.c.at, jobs.c.run_at).join_from(
        expiries, jobs, expiries.c.job_id == jobs.c.id
    )
    for row in tx.connection.execute(timed.where(jobs.c.id.in_(ids))).all():
        later = update(expiries).where(expiries.c.job_id == row.job_id).values(at=row.at - row.run_at + tx.now)
        tx.connection.execute(later)


def _flows_without(tx: Transaction, locked: Sequence[Locked]) -> dict[str, str]:
    """Of jobs that were the step of a flow, and are it no more, that flow; while one is, it may be retried as any."""
    steps: dict[str, str] = {}
    for table, key in ((history, history.c.id), (payloads, payloads.c.job_id)):
        ids = [job.id for job in locked if job.archived is (table is history)]
        if ids:
            for row in tx.connection.execute(select(key, table.c.body).where(key.in_(ids))):
                if flow := _flow_of(bytes(row.body)):
                    steps[row[0]] = flow
    if steps:
        live = select(flow_jobs.c.job_id).where(
            flow_jobs.c.job_id.in_(list(steps)), flow_jobs.c.state == ItemState.LIVE
        )
        for id in tx.connection.scalars(live):
            del steps[id]
    return steps


def _flow_of(body: bytes) -> str:
    """The flow whose step a message is; empty: it is none, or what was buried is no message."""
    if f'"{OPTION}"'.encode() not in body:
        return ""
    try:
        return str(json.loads(body)["options"][OPTION]["id"])
    except (ValueError, LookupError, TypeError, RecursionError):
        return ""


def remove_locked(tx: Transaction, job: Locked, event: str) -> str:
    remove_all(tx, [job], event)
    return job.id


def remove_all(tx: Transaction, locked: Sequence[Locked], event: str) -> dict[str, str]:
    """Forget jobs, which are locked and finished, with all that belongs to them but their journal."""
    if not locked:
        return {}
    ids = [job.id for job in locked]
    gates.forget(tx, ids)
    for table in (
        tickets, payloads, attempts, progress, checkpoints, results, uniques, expiries, failures, search_texts, edits,
    ):  # fmt: skip
        tx.connection.execute(delete(table).where(table.c.job_id.in_(ids)))
    for table in (jobs, history):
        tx.connection.execute(delete(table).where(table.c.id.in_(ids)))
    tx.note_jobs(
        event,
        [
            (job.id, {"queue": job.queue, "actor": job.actor, "message_id": job.message_id, "was": job.state})
            for job in locked
        ],
    )
    return {}


def cancel_all(tx: Transaction, locked: Sequence[Locked]) -> dict[str, str]:
    """Cancel jobs, which are locked and not finished: at once, or by asking those that run to stop."""
    active = [job.id for job in locked if job.state is State.ACTIVE]
    if active:
        anew = update(jobs).where(jobs.c.id.in_(active), ~jobs.c.cancel_requested).values(cancel_requested=True)
        tx.note_jobs("cancel_requested", [(id, {}) for id in sorted(tx.connection.scalars(anew.returning(jobs.c.id)))])
    still = [job for job in locked if job.state is not State.ACTIVE]
    if still:
        ids = [job.id for job in still]
        tx.connection.execute(
            update(jobs)
            .where(jobs.c.id.in_(ids))
            .values(state=State.CANCELLED, finished_at=tx.now, cancel_requested=False)
        )
        tx.connection.execute(delete(tickets).where(tickets.c.job_id.in_(ids)))
        gates.leave(tx, ids)
        tx.note_jobs(Event.CANCELLED, [(job.id, {"was": job.state}) for job in still])
    return {}


def _bring_back(tx: Transaction, ids: Sequence[str]) -> dict[str, int]:
    """From history to the hot table; returns the tickets they get.

    History does not keep the counters.  The epoch must be one no attempt has; an old message that has this very
    ticket would run the job once, as was asked.
    """
    if not ids:
        return {}
    last = dict(
        tx.connection.execute(
            select(attempts.c.job_id, func.max(attempts.c.epoch))
            .where(attempts.c.job_id.in_(ids))
            .group_by(attempts.c.job_id)
        ).all()
    )
    rows = tx.connection.execute(select(history).where(history.c.id.in_(ids))).all()
    shared = ("id", "queue", "actor", "priority", "state", "reason", "created_at", "run_at", "finished_at")
    tx.connection.execute(
        insert(jobs),
        [
            {name: getattr(row, name) for name in shared}
            | {"epoch": last.get(row.id, 0) + 1, "ticket": last.get(row.id, 0)}
            for row in rows
        ],
    )
    tx.connection.execute(
        insert(payloads),
        [{"job_id": r.id, "message_id": r.message_id, "body": r.body, "producer": r.producer} for r in rows],
    )
    tx.connection.execute(delete(history).where(history.c.id.in_(ids)))
    return {id: last.get(id, 0) + 1 for id in ids}

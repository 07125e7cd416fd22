"""The worker processes, and what they have in hand."""

import json
from collections import Counter, defaultdict
from dataclasses import replace
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, select

from ledger.orders import Ends, Mode, Wish
from ledger.scope import Scope
from ledger.tables import claims, jobs, worker_reports, worker_requests, workers
from ledger.views import CurrentJob, WorkerView

#: Jobs in workers' hands that are looked at, so that the answer is bounded.
MOST_JOBS = 5_000
AT_WORK: Final = ("running", "stopping")


def listing(
    connection: Connection, now: datetime, scope: Scope, *, everyone: bool = False, id: int | None = None
) -> list[WorkerView]:
    """By id; those at work only, unless ``everyone`` or a single one is asked for.

    Within a scope: those that serve a queue of it, and of each what has to do with such queues.
    """
    wanted = (
        select(workers, worker_requests, worker_reports)
        .outerjoin(worker_requests, worker_requests.c.worker_id == workers.c.id)
        .outerjoin(worker_reports, worker_reports.c.worker_id == workers.c.id)
        .order_by(workers.c.id)
    )
    if id is not None:
        wanted = wanted.where(workers.c.id == id)
    elif not everyone:
        wanted = wanted.where(workers.c.state.in_(AT_WORK))
    in_hand = _in_hand(connection, now, id, scope)
    found = [
        WorkerView(
            id=row.id,
            host=row.host,
            pid=row.pid,
            state=row.state,
            queues=json.loads(row.queues),
            threads=sum(slots.values()) if (slots := json.loads(row.slots or "{}")) else row.threads,
            version=row.version,
            started_at=row.started_at,
            heartbeat_at=row.heartbeat_at,
            stopped_at=row.stopped_at,
            silent_s=max(0.0, (now - row.heartbeat_at).total_seconds()),
            active=len(in_hand[row.id]),
            mode=Mode(row.mode) if row.mode else None,
            asked=Wish(row.wish) if row.wish else None,
            asked_at=row.asked_at,
            asked_by=row.asked_by,
            ends=Ends(row.ends) if row.ends else None,
            master=row.master,
            busy=row.busy,
            rss=row.rss,
            said_s=max(0.0, (now - row.at).total_seconds()) if row.at else None,
            slots=slots,
            jobs=in_hand[row.id],
        )
        for row in connection.execute(wanted)
    ]
    return found if not scope.limited else [mine for view in found if (mine := _within(view, scope)) is not None]


def serving(connection: Connection) -> Counter[str]:
    """How many of those at work serve each queue."""
    there = connection.scalars(select(workers.c.queues).where(workers.c.state.in_(AT_WORK)))
    return Counter(name for names in there for name in json.loads(names))


def _within(view: WorkerView, scope: Scope) -> WorkerView | None:
    queues = [name for name in view.queues if scope.admits(name)]
    slots = {name: count for name, count in view.slots.items() if scope.admits(name)}
    busy = None if view.busy is None else min(view.busy, view.active)
    threads = sum(slots.values()) if slots else view.threads
    return replace(view, queues=queues, slots=slots, threads=threads, busy=busy) if queues else None


def _in_hand(
    connection: Connection, now: datetime, worker: int | None, scope: Scope
) -> defaultdict[int, list[CurrentJob]]:
    wanted = (
        select(claims, jobs.c.actor, jobs.c.queue, jobs.c.cancel_requested)
        .join(jobs, (jobs.c.id == claims.c.job_id) & (jobs.c.epoch == claims.c.epoch))
        .order_by(claims.c.claimed_at)
        .where(scope.clause(jobs.c.queue))
        .limit(MOST_JOBS)
    )
    if worker is not None:
        wanted = wanted.where(claims.c.worker_id == worker)
    found: defaultdict[int, list[CurrentJob]] = defaultdict(list)
    for row in connection.execute(wanted):
        elapsed_s = max(0.0, (now - row.claimed_at).total_seconds())
        found[row.worker_id].append(
            CurrentJob(
                id=row.job_id,
                actor=row.actor,
                queue=row.queue,
                epoch=row.epoch,
                suspect=bool(row.suspect),
                cancel_requested=bool(row.cancel_requested),
                claimed_at=row.claimed_at,
                elapsed_s=elapsed_s,
            )
        )
    return found

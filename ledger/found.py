"""A page of jobs, in full."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, func, select, tuple_

from ledger.finder import Range, ids, names, queues, text_since
from ledger.job_reading import last_errors
from ledger.redact import message_of, preview, redacted_text
from ledger.scope import Scope
from ledger.search import QUALIFIERS, Filter, Found, Page, Suggestions, cursor_of, place_of
from ledger.states import Reason, State
from ledger.tables import attempts, failures, history, jobs, payloads, progress, workers

_SHARED = ("id", "queue", "actor", "priority", "state", "reason", "crashes", "created_at", "run_at", "finished_at")
_SUGGESTED = 200
#: Of an error a list shows so much.
_SAID = 300
_LOOKED_AT = 20_000


def page(connection: Connection, wanted: Filter, limit: int, after: str | None, now: datetime) -> Page:
    """The jobs that fit, newest first, behind a cursor."""
    place = place_of(after) if after else None
    found = ids(connection, wanted, Range(after=place), limit + 1, now)
    more = len(found) > limit
    rows = in_full(connection, found[:limit])
    return Page(rows, cursor_of(found[limit - 1]) if more else None, text_since(wanted, now))


def in_full(connection: Connection, wanted: Sequence[str]) -> list[Found]:
    """These jobs, in this order; those that are gone are left out."""
    if not wanted:
        return []
    hot: Select[Any] = (
        select(
            *(jobs.c[name] for name in _SHARED),
            jobs.c.attempts.label("attempts_spent"),
            payloads.c.message_id,
            payloads.c.body,
        )
        .join_from(jobs, payloads, payloads.c.job_id == jobs.c.id)
        .where(jobs.c.id.in_(wanted))
    )
    past: Select[Any] = select(
        *(history.c[name] for name in _SHARED),
        history.c.attempts.label("attempts_spent"),
        history.c.message_id,
        history.c.body,
    ).where(history.c.id.in_(wanted))
    errors = _errors(connection, wanted)
    told = {
        row.job_id: row.done / row.total
        for row in connection.execute(select(progress).where(progress.c.job_id.in_(wanted)))
        if row.total
    }
    ran = _last_ran(connection, wanted)
    rows = {row.id: _row(row, archived=True, errors=errors, told={}, ran=ran) for row in connection.execute(past)}
    rows |= {row.id: _row(row, archived=False, errors=errors, told=told, ran=ran) for row in connection.execute(hot)}
    return [rows[id] for id in wanted if id in rows]


def _row(
    row: Row[Any], *, archived: bool, errors: dict[str, str], told: dict[str, float], ran: dict[str, float]
) -> Found:
    fields = {name: getattr(row, name) for name in _SHARED} | {
        "state": State(row.state),
        "reason": Reason(row.reason) if row.reason else None,
    }
    return Found(
        **fields,
        message_id=row.message_id,
        attempts_spent=row.attempts_spent,
        archived=archived,
        args=preview(message_of(bytes(row.body))),
        error=errors.get(row.id),
        progress=told.get(row.id) if row.state == State.ACTIVE else None,
        duration_s=ran.get(row.id) if row.finished_at else None,
    )


def _last_ran(connection: Connection, wanted: Sequence[str]) -> dict[str, float]:
    """How many seconds the last attempt of each took."""
    last = select(attempts.c.job_id, func.max(attempts.c.epoch)).where(attempts.c.job_id.in_(wanted))
    rows = connection.execute(
        select(attempts.c.job_id, attempts.c.started_at, attempts.c.finished_at).where(
            tuple_(attempts.c.job_id, attempts.c.epoch).in_(last.group_by(attempts.c.job_id))
        )
    )
    return {row.job_id: (row.finished_at - row.started_at).total_seconds() for row in rows}


def _errors(connection: Connection, wanted: Sequence[str]) -> dict[str, str]:
    """Of those that are dead letters, what made them so."""
    dead = connection.scalars(select(failures.c.job_id).where(failures.c.job_id.in_(wanted))).all()
    said = {id: (error["error_type"], error["error_message"]) for id, error in last_errors(connection, dead).items()}
    return {id: redacted_text(": ".join(filter(None, parts)))[:_SAID] for id, parts in said.items()}


def suggestions(connection: Connection, scope: Scope) -> Suggestions:
    """What there is to ask for: names, bounded."""
    known = [name for name in queues(connection) if scope.admits(name)]
    newest = select(jobs.c.actor, jobs.c.queue).order_by(jobs.c.id.desc()).limit(_LOOKED_AT).subquery()
    live = select(newest.c.actor).distinct()
    if scope.limited:
        actors = set(connection.scalars(live.where(newest.c.queue.in_(known))))
    else:  # of the history it cannot be told cheaply which queues an actor was on
        actors = set(connection.scalars(live)) | set(names(connection, history.c.actor, history))
    newest_workers = select(workers.c.id, workers.c.queues).order_by(workers.c.id.desc()).limit(_SUGGESTED)
    there = [
        row.id
        for row in connection.execute(newest_workers)
        if not scope.limited or any(map(scope.admits, json.loads(row.queues)))
    ]
    return Suggestions(known[:_SUGGESTED], sorted(actors)[:_SUGGESTED], there, qualifiers=tuple(QUALIFIERS))

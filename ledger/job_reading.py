"""Jobs as people and programs read them: lists, one with all that is known of it, its status, its result."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, Table, func, literal, null, select, union_all

from errors import Undecipherable
from ledger.lookup import admitted
from ledger.scope import EVERYTHING, Scope
from ledger.sealing import CHECKPOINT, ERROR, NOTE, KeyRing, Seal, masked
from ledger.states import FINISHED, Outcome, Reason, State
from ledger.tables import (
    attempts,
    checkpoints,
    claims,
    edits,
    history,
    jobs,
    journal,
    payloads,
    progress,
    results,
    workers,
)
from ledger.views import (
    AttemptView,
    CheckpointView,
    ClaimView,
    JobRow,
    JobStatus,
    JobView,
    JournalRow,
    ProgressView,
    ResultMeta,
    ResultView,
)
from ledger.waits import held_back_by, wait_of

_HOT = (
    select(
        jobs.c.id,
        payloads.c.message_id,
        *(jobs.c[name] for name in ("queue", "actor", "priority", "state", "reason")),
        jobs.c.attempts.label("attempts_spent"),
        *(jobs.c[name] for name in ("crashes", "created_at", "run_at", "finished_at")),
    )
    .join_from(jobs, payloads, payloads.c.job_id == jobs.c.id)
)  # fmt: skip
_PAST = select(
    *(history.c[name] for name in ("id", "message_id", "queue", "actor", "priority", "state", "reason")),
    history.c.attempts.label("attempts_spent"),
    *(history.c[name] for name in ("crashes", "created_at", "run_at", "finished_at")),
)


def rows(
    connection: Connection,
    queue: str | None,
    state: State | str | None,
    actor: str | None,
    limit: int,
    before: str | None,
    scope: Scope,
    reason: Reason | None = None,
    *,
    archived: bool = True,
) -> list[dict[str, Any]]:
    """The fields of a list of jobs, newest first."""

    def page(wanted: Select[Any], table: Table) -> Select[Any]:
        for column, value in (("queue", queue), ("state", state), ("actor", actor), ("reason", reason)):
            if value is not None:
                wanted = wanted.where(table.c[column] == value)
        if before is not None:
            wanted = wanted.where(table.c.id < before)
        return wanted.where(scope.clause(table.c.queue)).order_by(table.c.id.desc()).limit(limit)

    found = [_fields(row, archived=False) for row in connection.execute(page(_HOT, jobs))]
    if archived and (state is None or state in FINISHED):
        found += [_fields(row, archived=True) for row in connection.execute(page(_PAST, history))]
    return sorted(found, key=lambda fields: str(fields["id"]), reverse=True)[:limit]


def _fields(row: Row[Any], *, archived: bool) -> dict[str, Any]:
    fields = dict(row._mapping)
    fields["state"] = State(fields["state"])
    fields["reason"] = Reason(fields["reason"]) if fields["reason"] else None
    return fields | {"archived": archived}


Reader = Callable[[str, str], str]


def reader(id: str, ring: KeyRing | None) -> Reader:
    """How a text that a job left, of a kind, is shown."""
    seal = Seal(ring or KeyRing(), id)

    def read(kind: str, text: str) -> str:
        try:
            return seal.open(kind, text)
        except Undecipherable:
            return masked(text)

    return read


def job(connection: Connection, id: str, read: Reader, scope: Scope = EVERYTHING) -> JobView | None:
    """All that is known of a job; within a scope, without the ids of jobs on other queues."""
    live = ("ticket", "epoch", "charges", "cancel_requested")
    hot = _HOT.add_columns(payloads.c.producer, payloads.c.body, *(jobs.c[name] for name in live))
    row = connection.execute(hot.where(jobs.c.id == id)).one_or_none()
    if archived := row is None:
        past = _PAST.add_columns(
            history.c.producer,
            history.c.body,
            *(literal(0).label(name) for name in live),
        )
        row = connection.execute(past.where(history.c.id == id)).one_or_none()
    if row is None:
        return None
    fields = _fields(row, archived=archived)
    fields["cancel_requested"] = bool(fields["cancel_requested"])
    edited_from = connection.scalar(select(edits.c.origin_id).where(edits.c.job_id == id))
    edited_into = list(connection.scalars(select(edits.c.job_id).where(edits.c.origin_id == id).limit(100)))
    lines, waits = _journal(connection, id), wait_of(connection, id)
    if scope.limited:
        told = {told for line in lines for told in (line.detail.get("into"), line.detail.get("from")) if told}
        others = {*edited_into, *told, *(waits.held_by if waits else ()), *([edited_from] if edited_from else ())}
        others -= admitted(connection, others, scope)
        lines = [x for x in lines if not {x.detail.get("into"), x.detail.get("from")} & others]
        waits = waits and replace(waits, held_by=[x for x in waits.held_by if x not in others])
        edited_into = [x for x in edited_into if x not in others]
        edited_from = None if edited_from in others else edited_from
    return JobView(
        **fields,
        attempts=_attempts(connection, id, read),
        journal=lines,
        claim=_claim(connection, id),
        progress=_progress(connection, id, read),
        checkpoint=_checkpoint(connection, id, read),
        result=_result_meta(connection, id),
        waits=waits,
        holds_back=held_back_by(connection, id),
        edited_from=edited_from,
        edited_into=edited_into,
    )


def line(connection: Connection, id: str) -> JobRow | None:
    """A job as lists have it."""
    places: Sequence[tuple[Select[Any], Table]] = ((_HOT, jobs), (_PAST, history))
    for wanted, table in places:
        if (row := connection.execute(wanted.where(table.c.id == id)).one_or_none()) is not None:
            return JobRow(**_fields(row, archived=table is history))
    return None


def status(connection: Connection, id: str, read: Reader) -> JobStatus | None:
    """Of all that is known of a job what can be asked often."""
    shared = ("id", "queue", "actor", "state", "reason", "attempts", "crashes", "created_at", "finished_at")
    hot = select(*(jobs.c[name] for name in shared), jobs.c.run_at.label("due_at"), jobs.c.cancel_requested)
    past = select(*(history.c[name] for name in shared), history.c.run_at.label("due_at"))
    row = connection.execute(hot.where(jobs.c.id == id)).one_or_none()
    row = row or connection.execute(past.where(history.c.id == id)).one_or_none()
    if row is None:
        return None
    error = last_errors(connection, [id]).get(id, {}) if row.attempts or row.reason else {}
    return JobStatus(
        **{name: getattr(row, name) for name in shared if name not in ("state", "reason")},
        state=State(row.state),
        reason=Reason(row.reason) if row.reason else None,
        cancel_requested=bool(getattr(row, "cancel_requested", False)),
        due_at=row.due_at,
        error=": ".join(filter(None, (error.get("error_type"), error.get("error_message")))) or None,
        progress=_progress(connection, id, read),
    )


def _worker(row: Row[Any]) -> str:
    return f"worker {row.worker_id} ({row.host}:{row.pid})" if row.host else f"worker {row.worker_id}"


def _attempts(connection: Connection, id: str, read: Reader) -> list[AttemptView]:
    rows = connection.execute(
        select(attempts, workers.c.host, workers.c.pid)
        .outerjoin(workers, workers.c.id == attempts.c.worker_id)
        .where(attempts.c.job_id == id)
        .order_by(attempts.c.epoch)
    )
    names = ("epoch", "number", "started_at", "finished_at", "run_at", "error_type", "traceback")
    return [
        AttemptView(
            outcome=Outcome(row.outcome),
            worker=_worker(row),
            error_message=None if row.error_message is None else read(ERROR, row.error_message),
            **{name: getattr(row, name) for name in names},
        )
        for row in rows
    ]


def _journal(connection: Connection, id: str) -> list[JournalRow]:
    rows = connection.execute(select(journal).where(journal.c.job_id == id).order_by(journal.c.at, journal.c.id))
    return [JournalRow(row.at, row.event, row.actor, json.loads(row.detail) if row.detail else {}) for row in rows]


def _claim(connection: Connection, id: str) -> ClaimView | None:
    row = connection.execute(
        select(claims, workers.c.host, workers.c.pid)
        .outerjoin(workers, workers.c.id == claims.c.worker_id)
        .where(claims.c.job_id == id)
    ).one_or_none()
    return ClaimView(_worker(row), row.epoch, row.claimed_at, bool(row.suspect)) if row else None


def _progress(connection: Connection, id: str, read: Reader) -> ProgressView | None:
    row = connection.execute(select(progress).where(progress.c.job_id == id)).one_or_none()
    return ProgressView(row.done, row.total, read(NOTE, row.note), row.at) if row else None


def _checkpoint(connection: Connection, id: str, read: Reader) -> CheckpointView | None:
    row = connection.execute(select(checkpoints).where(checkpoints.c.job_id == id)).one_or_none()
    if row is None:
        return None
    text = read(CHECKPOINT, bytes(row.body).decode())
    return CheckpointView(text if text.startswith("<") else json.loads(text), len(row.body), row.epoch, row.at)


def _result_meta(connection: Connection, id: str) -> ResultMeta | None:
    size = func.length(results.c.body).label("size")
    row = connection.execute(
        select(size, results.c.expires_at, results.c.read_at).where(results.c.job_id == id)
    ).one_or_none()
    return ResultMeta(row.size, row.expires_at, row.read_at) if row else None


def result(connection: Connection, id: str, now: datetime) -> tuple[ResultView, bool]:
    """The answer, and whether it is a value nobody has read yet."""
    ended = union_all(*(select(table.c.state, table.c.reason).where(table.c.id == id) for table in (jobs, history)))
    found = connection.execute(ended).one_or_none()
    if found is None:
        return ResultView("missing"), False
    state, reason = found
    if state in (State.FAILED, State.CANCELLED):
        error = last_errors(connection, [id]).get(id, {})
        return ResultView("failure", State(state), None, Reason(reason) if reason else None, **error), False
    row = connection.execute(
        select(results.c.body, results.c.read_at).where(results.c.job_id == id, results.c.expires_at > now)
    ).one_or_none()
    if row is None or state != State.COMPLETED:
        error = last_errors(connection, [id]).get(id, {}) if state == State.COMPLETED else {}
        refused = error.get("error_type") in ("errors.InvalidResult", "errors.ResultTooLarge")
        return (ResultView("refused", State(state), **error) if refused else ResultView("missing", State(state))), False
    return ResultView("value", State.COMPLETED, bytes(row.body), job=id), row.read_at is None


def last_errors(connection: Connection, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The error of each job's last attempt that had one; of a buried message, why it could never run."""
    rows = connection.execute(
        select(attempts.c.job_id, attempts.c.error_type, attempts.c.error_message)
        .where(attempts.c.job_id.in_(ids), attempts.c.error_type.isnot(null()))
        .order_by(attempts.c.epoch)
    )
    found: dict[str, dict[str, Any]] = {
        row.job_id: {"error_type": row.error_type, "error_message": masked(row.error_message or "")} for row in rows
    }
    buried = connection.execute(
        select(journal.c.job_id, journal.c.detail).where(journal.c.job_id.in_(ids), journal.c.event == "buried")
    )
    for row in buried:
        found.setdefault(row.job_id, {"error_type": None, "error_message": json.loads(row.detail)["error"]})
    return found

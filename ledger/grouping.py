"""The duty that puts dead letters into groups, whoever made them: a worker, the rescuer, an expiry, a burial.

It finds them by their state, not by an order of commits, and sweeps again over all, so that none is left out; what was
there before there were groups is found by the sweep.
"""

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Select, Table, delete, exists, or_, select
from sqlalchemy.dialects import postgresql, sqlite

from ledger import bookmarks, finder
from ledger.failures import Fingerprint, fingerprint
from ledger.indexing import write_again
from ledger.states import State
from ledger.tables import attempts, failure_groups, failures, history, jobs, journal
from ledger.text import FIRST_ID

#: A commit that comes later than its time by more is left to the sweep.
_LATE = timedelta(minutes=2)
_NEW, _SWEEP = "failures", "failures, sweep"


def group(connection: Connection, now: datetime, limit: int) -> int:
    """Put the newest dead letters into groups; returns how many."""
    place = bookmarks.held(connection, _NEW, (now - timedelta(days=1)).isoformat())
    if place is None:
        return 0
    since = datetime.fromisoformat(place) - _LATE
    known = finder.queues(connection)
    rows: list[Any] = []
    for table in (jobs, history):
        wanted = _ungrouped(table, limit - len(rows)).where(table.c.queue.in_(known), table.c.finished_at >= since)
        rows += connection.execute(wanted).all()
    _write(connection, rows)
    if len(rows) < limit:
        bookmarks.move(connection, _NEW, now.isoformat())
    return len(rows)


def sweep(connection: Connection, limit: int) -> bool:
    """Go on looking at all dead letters of the history, and those of the hot table at its end; whether it ended."""
    place = bookmarks.held(connection, _SWEEP, FIRST_ID)
    if place is None:
        return True
    dead = select(history.c.id).where(history.c.state == State.FAILED, history.c.id > place)
    ids = list(connection.scalars(dead.order_by(history.c.id).limit(limit)))
    _write(connection, connection.execute(_ungrouped(history, limit).where(history.c.id.in_(ids))).all())
    if len(ids) == limit:
        bookmarks.move(connection, _SWEEP, ids[-1])
        return False
    queues = finder.queues(connection)
    hot = connection.execute(_ungrouped(jobs, limit).where(jobs.c.queue.in_(queues))).all()
    _write(connection, hot)
    if len(hot) < limit:
        bookmarks.move(connection, _SWEEP, FIRST_ID)
    return len(hot) < limit


def forget(connection: Connection, before: datetime, limit: int) -> None:
    """Forget groups in which nothing is any more, and which began before then.

    Nobody puts anything into one meanwhile: whoever does so holds one of the two bookmarks.
    """
    if any(
        bookmarks.held(connection, name, place) is None
        for name, place in ((_NEW, before.isoformat()), (_SWEEP, FIRST_ID))
    ):
        return
    empty = (
        select(failure_groups.c.fingerprint)
        .where(failure_groups.c.first_at < before)
        .where(or_(failure_groups.c.snoozed_until.is_(None), failure_groups.c.snoozed_until < before))
        .where(~exists().where(failures.c.fingerprint == failure_groups.c.fingerprint))
        .limit(limit)
    )
    connection.execute(delete(failure_groups).where(failure_groups.c.fingerprint.in_(empty)))


def _ungrouped(table: Table, limit: int) -> Select[Any]:
    """Locked: one that an operator sends round again at this moment is not put into a group."""
    wanted = (
        select(*(table.c[name] for name in ("id", "queue", "actor", "reason", "finished_at")))
        .outerjoin(failures, failures.c.job_id == table.c.id)
        .where(table.c.reason.is_not(None), table.c.finished_at.is_not(None), failures.c.job_id.is_(None))
    )
    if table is history:
        wanted = wanted.where(table.c.state == State.FAILED)
    return wanted.limit(limit).with_for_update(of=table, skip_locked=True)


def _write(connection: Connection, rows: Sequence[Any]) -> None:
    if not rows:
        return
    said = _errors(connection, [row.id for row in rows])
    new: list[dict[str, Any]] = []
    groups: dict[str, tuple[Fingerprint, datetime]] = {}
    for row in rows:
        print_ = fingerprint(*said.get(row.id, (None, None, None)), row.reason)
        groups.setdefault(print_.id, (print_, row.finished_at))
        new.append(
            {"job_id": row.id, "fingerprint": print_.id, "queue": row.queue, "actor": row.actor, "at": row.finished_at}
        )
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    first = [
        {"fingerprint": id, "error_type": p.error_type, "frame": p.frame, "message": p.message, "first_at": at}
        for id, (p, at) in sorted(groups.items())
    ]
    connection.execute(dialect.insert(failure_groups).on_conflict_do_nothing(index_elements=["fingerprint"]), first)
    connection.execute(dialect.insert(failures).on_conflict_do_nothing(index_elements=["job_id"]), new)
    write_again(connection, [row.id for row in rows])


def _errors(connection: Connection, ids: Sequence[str]) -> dict[str, tuple[str | None, str | None, str | None]]:
    """Type, message and traceback of each job's last error; of a buried message, why it could never run."""
    found: dict[str, tuple[str | None, str | None, str | None]] = {}
    buried = select(journal.c.job_id, journal.c.detail).where(journal.c.job_id.in_(ids), journal.c.event == "buried")
    for job, detail in connection.execute(buried):
        found[job] = (None, json.loads(detail)["error"], None)
    columns = (attempts.c.job_id, attempts.c.error_type, attempts.c.error_message, attempts.c.traceback)
    tried = (
        select(*columns)
        .where(
            attempts.c.job_id.in_(ids), or_(attempts.c.error_type.is_not(None), attempts.c.error_message.is_not(None))
        )
        .order_by(attempts.c.epoch)
    )
    for row in connection.execute(tried):
        found[row.job_id] = (row.error_type, row.error_message, row.traceback)
    return found

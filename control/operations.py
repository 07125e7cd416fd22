"""Verbs on many jobs at once, which go on when whoever began them dies.

An operation is a row.  A batch is one transaction: it does the deed to the next jobs, in the order of their ids, and
moves the operation's cursor; so each job that fitted when it was begun is dealt with once, whoever is killed when.
Jobs that came after it was begun are left alone.
"""

import json
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

from sqlalchemy import Row, insert, select, update
from uuid_utils import uuid7

from control.jobs import cancel_all, remove_all, retry_all
from control.rows import Locked, lock_ids
from control.transaction import Control, Transaction
from control.who import By, Who
from errors import BadQuery, CountChanged, LedgerUnavailable, OperationNotFound
from failpoints import hit
from ledger import audit, finder
from ledger.finder import Range
from ledger.lookup import find as find_job
from ledger.operations import MEANT, STATES, Deed, OperationView, Trouble, view
from ledger.queries import Queries
from ledger.search import MOST_IDS, Filter
from ledger.tables import operations
from ledger.text import FIRST_ID, all_ids, line

logger = logging.getLogger("hareline.operations")

#: Jobs in one transaction: their rows are locked until it commits.
BATCH = 250
#: It is counted before how many jobs fit, up to here.
COUNTED = 100_000
#: By so much may that differ from what was expected.
DRIFT = 0.1
#: What is kept of who began it, besides the name and the door.
_ASKED = ("role", "token", "address", "request")
#: So many jobs that failed are kept with their trouble.
TROUBLES = 100


def start(
    control: Control,
    queries: Queries,
    deed: Deed | str,
    wanted: Filter,
    *,
    expected_count: int | None = None,
    dry_run: bool = False,
    by: By,
) -> OperationView:
    """Record that this is to be done to all jobs that fit now; :func:`run`, or any worker, does it.

    Parameters:
      expected_count: how many the one who asks has seen; refused when it is now over a tenth more, or fewer.
      dry_run: only count; nothing is recorded, and the answer has no id.

    Raises ``CountChanged``, ``BadQuery`` for a filter of jobs to which it cannot be done.
    """
    meant = applied(Deed(deed), wanted if isinstance(by, str) else wanted.within(by.queues))
    meant = replace(meant, since=finder.text_since(meant, queries.database_time()) or meant.since)
    count = queries.count(meant, most=COUNTED)
    if expected_count is not None and abs(count.count - min(expected_count, COUNTED)) > DRIFT * expected_count:
        raise CountChanged(
            f"{expected_count:,} jobs were expected, and {count} fit now: look again, and say that number"
        )

    def verb(tx: Transaction) -> OperationView:
        ids = tuple(sorted({id for ref in meant.ids if (id := find_job(tx.connection, ref, tx.scope))}))
        row = {
            "id": str(uuid7()),
            "verb": str(Deed(deed)),
            "filter": replace(meant, ids=ids if meant.ids else ()).to_json(),
            "state": "running",
            "expected": count.count,
            "more": count.more,
            "upto": max([*ids, finder.id_at(tx.now + timedelta(seconds=1))]),
            "cursor": FIRST_ID,
            "created_at": tx.now,
            "created_by": tx.by,
            **({name: getattr(by, name) for name in _ASKED} if isinstance(by, Who) else {}),
            "changed_at": tx.now,
        }
        tx.connection.execute(insert(operations).values(**row))
        told = {"operation": row["id"], "verb": deed, "jobs": str(count), "filter": words}
        tx.note(None, "operation started", told, deed=False)
        asked = by.operation if isinstance(by, Who) else ""
        tx.deeds.append(audit.Deed(asked or "start_operation", {"operation": row["id"]}, count.count, [told]))
        return _view(tx, str(row["id"]))

    words = meant.words()[:1000]
    if dry_run:
        now = queries.database_time()
        return OperationView("", Deed(deed), meant, "tried", count, 0, 0, 0, (), now, str(by), now)
    return control.run(verb, by=by)


def applied(deed: Deed, wanted: Filter) -> Filter:
    """The filter with the states in which a job has to be.  Raises ``BadQuery`` when it names only others."""
    if len(wanted.ids) > MOST_IDS:
        raise BadQuery(f"{len(wanted.ids):,} ids are too many for one operation; at most {MOST_IDS:,}, or a filter")
    states = STATES[deed] & set(wanted.states) if wanted.states else (STATES if wanted.ids else MEANT)[deed]
    if not states:
        raise BadQuery(
            f"{deed} is for jobs that are {', '.join(sorted(STATES[deed]))}, and the filter is for those that are "
            f"{', '.join(wanted.states)}"
        )
    return replace(wanted, states=tuple(sorted(states)))


def step(control: Control, id: str | None = None) -> OperationView | None:
    """The next batch of an operation, or of the oldest that is open; how it stands then.

    None: there is none, or somebody else is at its batch.  It is over when ``finished_at`` is there.  One whose batch
    raises is over, too, and says why: the next is not kept waiting by it.
    """
    with_by = "operation" if id is None else f"operation {id}"
    taken = id

    def verb(tx: Transaction) -> OperationView | None:
        nonlocal taken
        wanted = select(operations).where(operations.c.finished_at.is_(None)).order_by(operations.c.id).limit(1)
        if id is not None:
            wanted = wanted.where(operations.c.id == id)
        row = tx.connection.execute(wanted.with_for_update(skip_locked=True)).one_or_none()
        if row is None:
            return None
        taken = str(row.id)
        tx.by, tx.who = row.created_by, _who(row)  # whoever carries it out does it for them
        _batch(tx, view(row), row.cursor, row.upto)
        hit("operation.before_commit")
        return _view(tx, row.id)

    try:
        done = control.run(verb, by=with_by)
    except LedgerUnavailable:
        raise
    except Exception as error:
        if taken is not None:
            _break_off(control, taken, line(f"{type(error).__name__}: {error}", 300))
        raise
    hit("operation.committed")
    return done


def run(control: Control, id: str, *, told: Callable[[OperationView], None] | None = None) -> OperationView:
    """Do it to the end, beside the workers that do the same; how it ended.  Raises ``OperationNotFound``."""
    while True:
        now = step(control, id) or control.run(lambda tx: _view(tx, id), by="operation")
        if told is not None:
            told(now)
        if now.finished_at is not None:
            return now


def go_on(control: Control, *, for_s: float = 0.5) -> int:
    """Do batches of what is open, for about so long; returns how many.  For a duty."""
    until, batches = time.monotonic() + for_s, 0
    while True:
        try:
            if step(control) is None:
                break
        except LedgerUnavailable:
            raise
        except Exception:
            logger.critical("a bulk operation broke off; the next goes on", exc_info=True)
        batches += 1
        if time.monotonic() >= until:
            break
    return batches


def cancel(control: Control, id: str, *, by: By) -> OperationView:
    """Begin no further batch; what is done stays done.  Idempotent.  Raises ``OperationNotFound``."""

    def verb(tx: Transaction) -> OperationView:
        open_ = (operations.c.id == id, operations.c.finished_at.is_(None))
        _view(tx, id)
        ended = {"state": "cancelled", "finished_at": tx.now, "changed_at": tx.now, "cancelled_by": tx.by}
        if all_ids([id]) and tx.connection.execute(update(operations).where(*open_).values(**ended)).rowcount:
            tx.note(None, "operation cancelled", {"operation": id})
        return _view(tx, id)

    return control.run(verb, by=by)


def _who(row: Row[Any]) -> By:
    """Who began it, who may touch the queues that are in its filter."""
    via, colon, name = row.created_by.partition(":")
    return Who(name, via, **{part: getattr(row, part) for part in _ASKED}) if colon else str(row.created_by)


def _break_off(control: Control, id: str, why: str) -> None:
    """End an operation that cannot go on, in a transaction of its own: that of its batch was undone."""

    def verb(tx: Transaction) -> None:
        open_ = (operations.c.id == id, operations.c.finished_at.is_(None))
        ended = {"state": "cancelled", "finished_at": tx.now, "changed_at": tx.now, "cancelled_by": f"an error: {why}"}
        if tx.connection.execute(update(operations).where(*open_).values(**ended)).rowcount:
            tx.note(None, "operation broke off", {"operation": id, "error": why}, deed=False)

    control.run(verb, by=f"operation {id}")


def _batch(tx: Transaction, it: OperationView, cursor: str, upto: str) -> None:
    wanted = it.filter
    some = [id for id in wanted.ids if id > cursor][:BATCH]
    if wanted.ids:
        wanted = replace(wanted, ids=tuple(some))
    found = (
        finder.ids(tx.connection, wanted, Range(cursor, upto, ascending=True), BATCH, tx.now)
        if some or not it.filter.ids
        else []
    )
    locked = [job for job in lock_ids(tx, found) if job.state in it.filter.states]
    refused = _do(tx, it.verb, locked)
    troubles = [*it.troubles, *(Trouble(id, why) for id, why in refused.items())][:TROUBLES]
    over = len(some) < BATCH if it.filter.ids else len(found) < BATCH
    last = some[-1] if some else found[-1] if found else cursor
    done = len(locked) - len(refused)
    tx.connection.execute(
        update(operations)
        .where(operations.c.id == it.id)
        .values(
            cursor=last,
            done=it.done + done,
            skipped=it.skipped + max(len(found), len(some)) - len(locked),
            failed=it.failed + len(refused),
            troubles=json.dumps(troubles),
            changed_at=tx.now,
            **({"state": "done", "finished_at": tx.now} if over else {}),
        )
    )
    if found:
        what = {"operation": it.id, "verb": it.verb, "jobs": done, "first": found[0], "last": found[-1]}
        tx.note(None, "operation batch", what, deed=False)  # the trail has the jobs themselves
    if over:
        tx.note(None, "operation done", {"operation": it.id, "verb": it.verb, "jobs": it.done + done}, deed=False)


def _do(tx: Transaction, deed: Deed, jobs: list[Locked]) -> dict[str, str]:
    """Those it could not be done to, and why."""
    match deed:
        case Deed.RETRY | Deed.RUN_NOW:
            return retry_all(tx, jobs)
        case Deed.CANCEL:
            return cancel_all(tx, jobs)
        case Deed.DISCARD:
            return remove_all(tx, jobs, "discarded")
        case Deed.REMOVE:
            return remove_all(tx, jobs, "removed")


def _view(tx: Transaction, id: str) -> OperationView:
    asked = select(operations).where(operations.c.id == id)
    row = tx.connection.execute(asked).one_or_none() if all_ids([id]) else None
    found = None if row is None else view(row)
    if found is None or not found.within(tx.scope):
        raise OperationNotFound(f"there is no operation {id!r}; `hareline operations ls` shows them")
    return found

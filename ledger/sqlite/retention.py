"""How long finished jobs stay, and where."""

import json
from collections.abc import Mapping

from ledger.records import FLOWS_A_TIME, TICKS_KEPT_S, TRACES_KEPT_S, Keep
from ledger.sqlite.connection import Transaction


def retain(tx: Transaction, keep: Mapping[str, Keep], default: Keep, history_s: float, limit: int) -> int:
    moved: list[tuple[str]] = []
    for (queue,) in tx.run("finished_queues").fetchall():
        limits = keep.get(queue, default)
        before, count = _before(tx, limits.completed_s), limits.completed
        moved += tx.run("over_done", queue, before, count, limit - len(moved), tx.now).fetchall()
        before, count = _before(tx, limits.failed_s), limits.failed
        moved += tx.run("over_dead", queue, before, count, limit - len(moved)).fetchall()
    if history_s > 0:
        tx.many("archive", [(tx.now, id) for (id,) in moved])
    else:
        _forget(tx, moved)
    for name in ("drop_ticket", "drop_progress", "drop_checkpoint", "drop_payload", "drop_job"):
        tx.many(name, moved)
    tx.many("drop_keys_of", [(id, tx.now) for (id,) in moved])
    old = tx.run("old_history", _before(tx, history_s), limit).fetchall()
    _forget(tx, old)
    tx.many("drop_history", old)
    before = _before(tx, max(history_s, TRACES_KEPT_S))
    if workers := tx.run("expire_workers", before, limit).rowcount:
        tx.run("expire_requests")
        tx.run("expire_reports")
    loose = tx.run("loose_journal", before, limit).fetchall()
    _raise_floor(tx, [job for _, job in loose if job is not None])
    tx.many("drop_line", [(line,) for line, _ in loose])
    tx.many("drop_journal_of_removed", [(job,) for _, job in loose if job is not None])
    flows = tx.run("old_flows", before, FLOWS_A_TIME).fetchall()
    for name in ("drop_flow_steps", "drop_flow_jobs", "drop_flow_values", "drop_flow"):
        tx.many(name, flows)
    return max(
        len(moved),
        len(old),
        _expire_keys(tx, limit),
        tx.run("expire_results", tx.now, limit).rowcount,
        tx.run("expire_groups", tx.now, limit).rowcount,
        tx.run("expire_ticks", _before(tx, TICKS_KEPT_S), limit).rowcount,
        workers,
        len(loose),
        tx.run("expire_operations", before, limit).rowcount,
        limit if len(flows) == FLOWS_A_TIME else len(flows),
        tx.run("expire_limits", _before(tx, 60), limit).rowcount,
        tx.run("expire_reservations", _before(tx, 3600), limit).rowcount,
    )


def _expire_keys(tx: Transaction, limit: int) -> int:
    """Keys whose time has passed go with their job, or if it is there, when it goes."""
    passed = tx.run("passed_keys", tx.now, limit).fetchall()
    tx.many("drop_key", [(key,) for key, jobless in passed if jobless])
    tx.many("leave_key", [(key,) for key, jobless in passed if not jobless])
    return len(passed)


def _forget(tx: Transaction, jobs: list[tuple[str]]) -> None:
    _raise_floor(tx, [id for (id,) in jobs])
    for name in ("attempts", "journal", "result", "line_of", "failure", "search_text", "edit"):
        tx.many(f"drop_{name}", jobs)


def _raise_floor(tx: Transaction, jobs: list[str]) -> None:
    if jobs:
        tx.run("raise_floor", json.dumps(jobs))


def _before(tx: Transaction, age_s: float) -> int:
    return tx.now - int(age_s * 1_000_000)

"""How long finished jobs stay, and where."""

from collections.abc import Mapping

from ledger.postgres.arrays import literal
from ledger.postgres.connection import Cursor
from ledger.records import FLOWS_A_TIME, TICKS_KEPT_S, TRACES_KEPT_S, Keep


def retain(cursor: Cursor, keep: Mapping[str, Keep], default: Keep, history_s: float, limit: int) -> int:
    """One transaction.  Rows another session has locked wait for the next call."""
    ids: list[str] = []
    for (queue,) in cursor.run("finished_queues"):
        limits = keep.get(queue, default)
        for name, age_s, count in (
            ("over_done", limits.completed_s, limits.completed),
            ("over_dead", limits.failed_s, limits.failed),
        ):
            if room := limit - len(ids):
                ids += [id for (id,) in cursor.run(name, queue, str(age_s), str(count), str(room))]
    moved = _lock(cursor, ids)
    if moved:
        cursor.run("drop_keys_of", moved)
        if history_s > 0:
            cursor.run("archive", moved)
        else:
            _forget(cursor, moved)
        for name in ("drop_jobs", "drop_payloads", "drop_progress", "drop_checkpoints", "drop_tickets"):
            cursor.run(name, moved)
    old = [id for (id,) in cursor.run("old_history", str(history_s), str(max(0, limit - len(ids))))]
    if old:
        _forget(cursor, literal(old))
        cursor.run("drop_history", literal(old))
    _expire_keys(cursor, limit)
    cursor.run("expire_results", str(limit))
    cursor.run("expire_groups")
    cursor.run("expire_ticks", str(TICKS_KEPT_S), str(limit))
    for name in ("expire_workers", "expire_journal", "expire_operations"):
        cursor.run(name, str(max(history_s, TRACES_KEPT_S)), str(limit))
    cursor.run("expire_flows", str(max(history_s, TRACES_KEPT_S)), str(FLOWS_A_TIME))
    cursor.run("expire_limits", str(limit))
    cursor.run("expire_reservations", str(limit))
    return len(ids) + len(old)


def _lock(cursor: Cursor, ids: list[str]) -> str:
    """The array of those that are still finished: an operator may have sent one round again meanwhile."""
    rows = cursor.run("lock_finished", literal(ids)) if ids else []
    return literal(id for (id,) in rows) if rows else ""


def _expire_keys(cursor: Cursor, limit: int) -> None:
    """Keys whose time has passed go with their job, or if it is there, when it goes.

    First the lock: whether the job of a key is there can only be seen by a snapshot taken after it.
    """
    if keys := literal(key for (key,) in cursor.run("lock_passed_keys", str(limit))).strip("{}"):
        cursor.run("drop_keys", f"{{{keys}}}")
        cursor.run("leave_keys", f"{{{keys}}}")


def _forget(cursor: Cursor, ids: str) -> None:
    for name in ("attempts", "journal", "results", "lines", "failures", "search_texts", "edits"):
        cursor.run(f"drop_{name}", ids)

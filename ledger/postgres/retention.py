"""How long finished jobs stay, and where."""

from collections.abc import Mapping

from ledger.postgres.arrays import literal
from ledger.postgres.connection import Cursor
from ledger.records import FLOWS_A_TIME, TICKS_KEPT_S, TRACES_KEPT_S, Keep


def retain(cursor: Cursor, keep: Mapping[str, Keep], default: Keep, history_s: float, limit: int) -> int:
    """One transaction.  What another session has locked waits for the next call."""
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
    old = [id for (id,) in cursor.run("old_history", str(history_s), str(limit))]
    if old:
        _forget(cursor, literal(old))
        cursor.run("drop_history", literal(old))
    traces_s, most = str(max(history_s, TRACES_KEPT_S)), str(limit)
    flows = cursor.count("expire_flows", traces_s, str(FLOWS_A_TIME))
    return max(
        len(ids) if moved else 0,  # all of them locked: somebody else is at it
        len(old),
        _expire_keys(cursor, limit),
        cursor.count("expire_results", most),
        cursor.count("expire_groups", most),
        cursor.count("expire_ticks", str(TICKS_KEPT_S), most),
        *(cursor.count(name, traces_s, most) for name in ("expire_workers", "expire_journal", "expire_operations")),
        limit if flows == FLOWS_A_TIME else flows,
        cursor.count("expire_limits", most),
        cursor.count("expire_reservations", most),
    )


def _lock(cursor: Cursor, ids: list[str]) -> str:
    """The array of those that are still finished: an operator may have sent one round again meanwhile.

    Keys first, as everywhere; a job whose key somebody else has locked stays until the next call.
    """
    if not ids:
        return ""
    asked = literal(ids)
    if keys := cursor.run("keys_of", asked):
        free = {key for (key,) in cursor.run("lock_free_keys", asked)}
        busy = {job for key, job in keys if key not in free}
        asked = literal(id for id in ids if id not in busy)
    rows = cursor.run("lock_finished", asked)
    return literal(id for (id,) in rows) if rows else ""


def _expire_keys(cursor: Cursor, limit: int) -> int:
    """Keys whose time has passed go with their job, or if it is there, when it goes.

    First the lock: whether the job of a key is there can only be seen by a snapshot taken after it.
    """
    keys = [key for (key,) in cursor.run("lock_passed_keys", str(limit))]
    if keys:
        cursor.run("drop_keys", literal(keys))
        cursor.run("leave_keys", literal(keys))
    return len(keys)


def _forget(cursor: Cursor, ids: str) -> None:
    for name in ("attempts", "journal", "results", "lines", "failures", "search_texts", "edits"):
        cursor.run(f"drop_{name}", ids)

"""How long finished jobs stay, and where."""

from collections.abc import Mapping

from ledger.records import Keep
from ledger.sqlite.connection import Transaction
from ledger.states import FINISHED, State

_TICKS_KEPT = 7 * 86400 * 1_000_000  #: microseconds; no scheduler is late by more


def retain(tx: Transaction, keep: Mapping[str, Keep], default: Keep, history_s: float, limit: int) -> int:
    moved: list[tuple[str]] = []
    for (queue,) in tx.run("finished_queues").fetchall():
        limits = keep.get(queue, default)
        for state in sorted(FINISHED):
            failed = state is State.FAILED
            count = limits.failed if failed else limits.completed
            before = tx.now - int((limits.failed_s if failed else limits.completed_s) * 1_000_000)
            room = limit - len(moved)
            moved += tx.run("over_limits", queue, state.value, before, count, tx.now, room).fetchall()
    if history_s > 0:
        tx.many("archive", [(tx.now, id) for (id,) in moved])
    else:
        _forget(tx, moved)
    for name in ("drop_progress", "drop_payload", "drop_job"):
        tx.many(name, moved)
    old = tx.run("old_history", tx.now - int(history_s * 1_000_000), max(0, limit - len(moved))).fetchall()
    _forget(tx, old)
    tx.many("drop_history", old)
    tx.run("expire_results", tx.now, limit)
    tx.run("expire_groups", tx.now)
    tx.run("expire_ticks", tx.now - _TICKS_KEPT)
    return len(moved) + len(old)


def _forget(tx: Transaction, jobs: list[tuple[str]]) -> None:
    tx.many("drop_attempts", jobs)
    tx.many("drop_journal", jobs)
    tx.many("drop_result", jobs)

"""Verbs for dead letters: failed jobs."""

from collections.abc import Callable, Sequence

from control.jobs import each, remove_all, remove_locked, retry_all, retry_locked
from control.rows import Locked, lock_all
from control.transaction import Control, Transaction
from control.who import By
from errors import IllegalTransition
from ledger.states import Reason, State


def retry(
    control: Control,
    *refs: str,
    queue: str | None = None,
    actor: str | None = None,
    reason: Reason | None = None,
    limit: int | None = None,
    by: By,
) -> list[str]:
    """Send dead letters round again: those named, or without ``refs`` all that fit; returns their ids.

    Raises ``JobNotFound`` and ``IllegalTransition`` for a named one; none of the named was changed then.
    """
    if refs:
        return _named(control, refs, retry_locked, by=by)
    return each(control, retry_all, State.FAILED, queue=queue, actor=actor, reason=reason, limit=limit, by=by)


def discard(
    control: Control,
    *refs: str,
    queue: str | None = None,
    actor: str | None = None,
    reason: Reason | None = None,
    limit: int | None = None,
    by: By,
) -> list[str]:
    """Remove dead letters for good (their journal stays): those named, or all that fit; returns their ids."""
    if refs:
        return _named(control, refs, _discard, by=by)
    return each(control, _discard_all, State.FAILED, queue=queue, actor=actor, reason=reason, limit=limit, by=by)


def _discard(tx: Transaction, job: Locked) -> str:
    return remove_locked(tx, job, "discarded")


def _discard_all(tx: Transaction, jobs: Sequence[Locked]) -> dict[str, str]:
    return remove_all(tx, jobs, "discarded")


def _named(control: Control, refs: tuple[str, ...], verb: Callable[[Transaction, Locked], str], *, by: By) -> list[str]:
    def named(tx: Transaction) -> list[str]:
        locked = lock_all(tx, refs)
        for job in locked:
            if job.state is not State.FAILED:
                raise IllegalTransition(f"job {job.id} is {job.state}, no dead letter; see `hareline jobs retry|rm`")
        return [verb(tx, job) for job in locked]

    return control.run(named, by=by)

"""Jobs taken from a worker without having ended: given back by itself, or taken by the rescuer."""

import json
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from ledger.records import Beat, Rescue
from ledger.sqlite.connection import Transaction
from ledger.states import Event, Outcome, Reason

CHARGES = 3  #: as many times may a suspect kill its worker before it is quarantined


class Held(NamedTuple):
    """A claim and what its job's row says."""

    id: str
    epoch: int
    queue: str
    priority: int
    ticket: int
    crashes: int
    charges: int
    cancel_requested: int
    suspect: int
    claimed_at: int
    worker: int


def release(tx: Transaction, worker: int, held: Sequence[tuple[str, int]]) -> None:
    wanted = set(held)
    _give_back(tx, [job for job in _owned_by(tx, worker) if (job.id, job.epoch) in wanted], "released unstarted")


def beat(tx: Transaction, worker: int, held: Sequence[tuple[str, int]], lease_s: float) -> Beat:
    if not tx.run("beat", tx.now, worker).rowcount:
        return Beat(alive=False)
    holds = set(held)
    owned = _owned_by(tx, worker)
    # A claim younger than a lease may be on its way to the worker, which cannot name it yet.
    before = tx.now - int(lease_s * 1_000_000)
    forgotten = [job for job in owned if (job.id, job.epoch) not in holds and job.claimed_at < before]
    _give_back(tx, forgotten, "owned but not held")
    return Beat(
        alive=True,
        cancel=frozenset(job.id for job in owned if job.cancel_requested and (job.id, job.epoch) in holds),
        paused=frozenset(row[0] for row in tx.run("paused")),
        released=len(forgotten),
    )


def leave(tx: Transaction, worker: int) -> None:
    _give_back(tx, _owned_by(tx, worker), "worker stopped")
    tx.run("leave", tx.now, worker)


def rescue(tx: Transaction, lease_s: float) -> Rescue:
    silent = list(tx.run("silent", tx.now - int(lease_s * 1_000_000)))
    tx.many("fence", [(tx.now, worker) for worker, *_ in silent])
    returned = cancelled = 0
    quarantined: list[str] = []
    for worker, state, host, pid in silent:
        owned = _owned_by(tx, worker)
        if state == "stopping":
            ended = _give_back(tx, owned, "shutdown not finished")
            returned, cancelled = returned + len(owned) - ended, cancelled + ended
            continue
        suspects = [job for job in owned if job.suspect]
        innocent = [job for job in owned if not job.suspect] if suspects else []
        charged = [job._replace(charges=job.charges + 1, crashes=job.crashes + 1) for job in suspects]
        accused = [] if suspects else [job._replace(crashes=job.crashes + 1) for job in owned]
        poison = [job for job in charged if job.charges >= CHARGES and not job.cancel_requested]
        again = [*innocent, *accused, *(job for job in charged if job not in poison)]
        _crashed(tx, [*poison, *again], f"worker {worker} on {host} (pid {pid}) died or stalled")
        _quarantine(tx, poison)
        ended = _go_round(tx, again, Event.CRASHED, {"worker": worker})
        returned, cancelled = returned + len(again) - ended, cancelled + ended
        quarantined += [job.id for job in poison]
    for (worker,) in tx.run("ownerless").fetchall():
        returned += len(lost := _owned_by(tx, worker))
        _give_back(tx, lost, "worker is gone")
    return Rescue([worker for worker, *_ in silent], returned, quarantined, cancelled)


def _owned_by(tx: Transaction, worker: int) -> list[Held]:
    return [Held(*row) for row in tx.run("owned_by", worker)]


def _give_back(tx: Transaction, jobs: Sequence[Held], why: str) -> int:
    return _go_round(tx, jobs, Event.RELEASED, {"why": why})


def _go_round(tx: Transaction, jobs: Collection[Held], event: Event, detail: dict[str, Any]) -> int:
    """Send active jobs round again with a new ticket; how many ended as cancelled instead.

    Their epoch becomes one nobody holds, so that a late finish of theirs is refused.
    """
    tx.many("look_of", [(job.id,) for job in jobs])
    cancelled = [job for job in jobs if job.cancel_requested]
    again = [job for job in jobs if not job.cancel_requested]
    due = tx.now if event is Event.CRASHED else None  # what was only given back became due when it did
    tx.many("again", [(x.ticket + 1, x.epoch + 1, x.crashes, x.charges, due, x.id) for x in again])
    tx.many("replace_ticket", [(x.id, x.queue, x.priority, x.ticket + 1, tx.embedded, tx.now) for x in again])
    tx.many("end_cancelled", [(x.epoch + 1, x.crashes, x.charges, tx.now, x.id) for x in cancelled])
    tx.many("drop_claim", [(x.worker, x.id) for x in jobs])
    text = json.dumps(detail)
    tx.many("insert_journal", [(x.id, tx.now, event.value, f"worker {x.worker}", text) for x in again])
    told = [(x.id, tx.now, Event.CANCELLED.value, f"worker {x.worker}", text, tx.number) for x in cancelled]
    tx.many("insert_told", told)
    return len(cancelled)


def _crashed(tx: Transaction, jobs: Sequence[Held], what: str) -> None:
    tx.many(
        "insert_attempt",
        [
            (job.id, job.epoch, None, Outcome.CRASHED.value, job.worker, job.claimed_at, tx.now, None, None, what, None,
             tx.number)
            for job in jobs
        ],
    )  # fmt: skip


def _quarantine(tx: Transaction, jobs: Sequence[Held]) -> None:
    tx.many("look_of", [(job.id,) for job in jobs])
    tx.many("quarantine", [(Reason.POISON.value, job.crashes, job.charges, tx.now, job.id) for job in jobs])
    tx.many(
        "insert_told",
        [
            (job.id, tx.now, Event.FAILED.value, f"worker {job.worker}",
             json.dumps({"reason": Reason.POISON, "charges": job.charges}), tx.number)
            for job in jobs
        ],
    )  # fmt: skip
    tx.many("drop_claim", [(job.worker, job.id) for job in jobs])

"""How waiting jobs get into a worker's hands."""

import json
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ledger.instants import from_micros
from ledger.records import Claim, Ticket, Verdict
from ledger.sqlite.connection import Transaction
from ledger.states import Event, State

_PUT_OFF = 1_000_000  #: microseconds until a suspect that found no room tries again
NEVER = 2**63 - 1  #: PostgreSQL's 'infinity': due when the queue is resumed


def claim(tx: Transaction, worker: int, tickets: Sequence[Ticket], suspects: int) -> list[Claim]:
    # Of several messages of one job only the one with the newest ticket can run.
    newest: dict[str, Ticket] = {}
    for ticket in tickets:
        if ticket.id not in newest or ticket.ticket > newest[ticket.id].ticket:
            newest[ticket.id] = ticket
    answers = _claim_each(tx, worker, newest.values(), suspects)
    return [
        answers[x.id]
        if newest[x.id] is x or answers[x.id].verdict is Verdict.GONE
        else Claim(x.id, Verdict.DROP, "duplicate")
        for x in tickets
    ]


def take(tx: Transaction, worker: int, wants: Mapping[str, int], suspects: int) -> list[Claim]:
    if not _alive(tx, worker):
        return []
    paused = _paused(tx)
    parked = _Parked(tx, worker)
    answers: list[Claim] = []
    for queue, room in wants.items():
        if room <= 0 or queue in paused:
            continue
        rows = tx.run("take_look", queue, room)
        for id, number, epoch, attempts, crashes, created_at, run_at, priority, message, body, sequenced, tried in rows:
            if crashes and suspects <= 0:
                # Put off: left where they are, suspects would stand before everyone else.
                parked.delayed(id, queue, priority, number + 1, "suspect")
                continue
            suspects -= crashes > 0
            epoch += 1
            known = epoch, attempts, crashes, crashes > 0, from_micros(run_at), number, queue, message, body
            more = from_micros(created_at), bool(sequenced), _since(tx, run_at), bool(tried)
            answers.append(Claim(id, Verdict.RUN, "", *known, *more))
    _own(tx, worker, answers)
    tx.many("drop_ticket", [(x.id,) for x in answers])
    parked.write()
    return answers


def _claim_each(tx: Transaction, worker: int, tickets: Collection[Ticket], suspects: int) -> dict[str, Claim]:
    rows = {row[0]: row for row in tx.run("claim_look", json.dumps([x.id for x in tickets]))}
    paused = _paused(tx)
    alive = _alive(tx, worker)
    queues = {x.queue for x in tickets}
    answers: dict[str, Claim] = {}
    taken: list[Claim] = []
    waiting: list[tuple[Any, ...]] = []
    parked = _Parked(tx, worker)
    for x in tickets:
        row = rows.get(x.id)
        if row is None:
            answers[x.id] = _gone(tx, x.id)
            continue
        id, state, number, epoch, attempts, crashes, created_at, run_at, queue, priority, owner, sequenced, tried = row
        if state == State.WAITING:
            if number != x.ticket:
                answers[id] = Claim(id, Verdict.DROP, "stale")
            elif queue not in queues:  # its message was found in another queue: it gets one in its own
                parked.waiting(id, queue, priority, number + 1, "moved", NEVER if queue in paused else tx.now)
                answers[id] = Claim(id, Verdict.PARK, "moved")
            elif queue in paused:
                parked.waiting(id, queue, priority, number + 1, "paused", NEVER)
                answers[id] = Claim(id, Verdict.PARK, "paused")
            elif not alive:
                parked.delayed(id, queue, priority, number + 1, "fenced")
                answers[id] = Claim(id, Verdict.PARK, "fenced")
            else:
                waiting.append(row)
        elif state == State.ACTIVE and owner == worker and number == x.ticket:
            suspects -= crashes > 0
            known = epoch, attempts, crashes, crashes > 0, from_micros(run_at), number, queue
            more = from_micros(created_at), bool(sequenced), _since(tx, run_at), bool(tried)
            answers[id] = Claim(id, Verdict.RUN, "", *known, "", b"", *more)
        else:
            answers[id] = Claim(id, Verdict.DROP, state)
    for id, _, number, epoch, attempts, crashes, created_at, run_at, queue, priority, _, sequenced, tried in waiting:
        if crashes and suspects <= 0:
            parked.delayed(id, queue, priority, number + 1, "suspect")
            answers[id] = Claim(id, Verdict.PARK, "suspect")
            continue
        suspects -= crashes > 0
        known = epoch + 1, attempts, crashes, crashes > 0, from_micros(run_at), number, queue
        more = from_micros(created_at), bool(sequenced), _since(tx, run_at), bool(tried)
        answers[id] = Claim(id, Verdict.RUN, "", *known, "", b"", *more)
        taken.append(answers[id])
    _own(tx, worker, taken)
    parked.write()
    return answers


def _since(tx: Transaction, run_at: int) -> float:
    """When that was, by the monotonic clock."""
    return time.monotonic() - (tx.now - run_at) / 1_000_000


def _own(tx: Transaction, worker: int, claims: Collection[Claim]) -> None:
    tx.many("activate", [(x.id,) for x in claims])
    tx.many("insert_claim", [(worker, x.id, x.epoch, x.ticket, x.suspect, tx.now) for x in claims])


def _paused(tx: Transaction) -> set[str]:
    return {row[0] for row in tx.run("paused")}


def _alive(tx: Transaction, worker: int) -> bool:
    """A fenced worker gets nothing more: nobody would ever rescue it."""
    return tx.run("worker_alive", worker).fetchone() is not None


def _gone(tx: Transaction, id: str) -> Claim:
    past = tx.run("past_state", id).fetchone()
    return Claim(id, Verdict.DROP, past[0]) if past else Claim(id, Verdict.GONE, "gone")


class _Parked:
    """Jobs whose message is used up without a run: each gets a new ticket."""

    def __init__(self, tx: Transaction, worker: int) -> None:
        self._tx = tx
        self._who = f"worker {worker}"
        self._waiting: list[tuple[Any, ...]] = []
        self._delayed: list[tuple[Any, ...]] = []
        self._tickets: list[tuple[Any, ...]] = []
        self._journal: list[tuple[Any, ...]] = []

    def waiting(self, id: str, queue: str, priority: int, ticket: int, why: str, due_at: int) -> None:
        self._waiting.append((id,))
        self._park(id, queue, priority, ticket, why, due_at)

    def delayed(self, id: str, queue: str, priority: int, ticket: int, why: str) -> None:
        self._delayed.append((id,))
        self._park(id, queue, priority, ticket, why, self._tx.now + _PUT_OFF)

    def _park(self, id: str, queue: str, priority: int, ticket: int, why: str, due_at: int) -> None:
        self._tickets.append((id, queue, priority, ticket, 0, due_at))
        self._journal.append((id, self._tx.now, Event.PARKED.value, self._who, json.dumps({"why": why})))

    def write(self) -> None:
        self._tx.many("new_ticket", self._waiting)
        self._tx.many("park_delayed", self._delayed)
        self._tx.many("replace_ticket", self._tickets)
        self._tx.many("insert_journal", self._journal)

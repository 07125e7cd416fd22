"""How waiting jobs get into a worker's hands."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ledger.records import Claim, Ticket, Verdict
from ledger.sqlite.connection import Transaction
from ledger.states import Event, State
from ledger.tables import from_micros

_SUSPECT_AGAIN = 1_000_000  #: microseconds until a suspect that found no room tries again
NEVER = 2**63 - 1  #: PostgreSQL's 'infinity': due when the queue is resumed


def claim(tx: Transaction, worker: int, tickets: Sequence[Ticket], suspects: int) -> list[Claim]:
    ids = json.dumps([ticket.id for ticket in tickets])
    rows = {row[0]: row for row in tx.run("claim_look", ids)}
    paused = {row[0] for row in tx.run("paused")}
    alive = _alive(tx, worker)
    answered: set[str] = set()
    taken: list[tuple[Any, ...]] = []
    parked = _Parked(tx)
    answers: list[Claim] = []
    for ticket in tickets:
        id = ticket.id
        row = rows.get(id)
        if row is None:
            answers.append(_gone(tx, id))
            continue
        _, state, number, epoch, attempts, crashes, created_at, queue, priority, owner, suspect = row
        if id in answered:
            answers.append(Claim(id, Verdict.DROP, "duplicate"))
        elif state == State.ACTIVE and owner == worker and number == ticket.ticket:
            born = from_micros(created_at)
            answers.append(Claim(id, Verdict.RUN, "", epoch, attempts, crashes, bool(suspect), born, number, queue))
        elif state != State.WAITING:
            answers.append(Claim(id, Verdict.DROP, state))
        elif number != ticket.ticket:
            answers.append(Claim(id, Verdict.DROP, "stale"))
        elif queue in paused:
            parked.until_resumed(id, queue, priority, number + 1)
            answers.append(Claim(id, Verdict.PARK, "paused"))
        elif not alive:
            parked.delayed(id, queue, priority, number + 1, "fenced")
            answers.append(Claim(id, Verdict.PARK, "fenced"))
        elif crashes and suspects <= 0:
            parked.delayed(id, queue, priority, number + 1, "suspect")
            answers.append(Claim(id, Verdict.PARK, "suspect"))
        else:
            suspects -= crashes > 0
            epoch += 1
            born = from_micros(created_at)
            taken.append((worker, id, epoch, number, crashes > 0, tx.now))
            answers.append(Claim(id, Verdict.RUN, "", epoch, attempts, crashes, crashes > 0, born, number, queue))
        answered.add(id)
    _own(tx, taken)
    parked.write()
    return answers


def take(tx: Transaction, worker: int, wants: Mapping[str, int], suspects: int) -> list[Claim]:
    if not _alive(tx, worker):
        return []
    paused = {row[0] for row in tx.run("paused")}
    answers: list[Claim] = []
    for queue, room in wants.items():
        if room <= 0 or queue in paused:
            continue
        # Read no further than there is room: the index gives the order, the rest is not touched.
        for id, number, epoch, attempts, crashes, created_at, message_id, body in tx.run("take_look", queue):
            if crashes:
                if suspects <= 0:
                    continue
                suspects -= 1
            answers.append(
                Claim(
                    id, Verdict.RUN, "", epoch + 1, attempts, crashes, crashes > 0,
                    from_micros(created_at), number, queue, message_id, body,
                )
            )  # fmt: skip
            room -= 1
            if not room:
                break
    _own(tx, [(worker, x.id, x.epoch, x.ticket, x.suspect, tx.now) for x in answers])
    return answers


def _own(tx: Transaction, claims: Sequence[tuple[Any, ...]]) -> None:
    ids = [(row[1],) for row in claims]
    tx.many("activate", ids)
    tx.many("insert_claim", claims)
    tx.many("drop_ticket", ids)


def _alive(tx: Transaction, worker: int) -> bool:
    """A fenced worker gets nothing more: nobody would ever rescue it."""
    return tx.run("worker_alive", worker).fetchone() is not None


def _gone(tx: Transaction, id: str) -> Claim:
    past = tx.run("past_state", id).fetchone()
    return Claim(id, Verdict.DROP, past[0]) if past else Claim(id, Verdict.GONE, "gone")


class _Parked:
    """Jobs whose message is used up without a run: each gets a new ticket."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx
        self._waiting: list[tuple[Any, ...]] = []
        self._delayed: list[tuple[Any, ...]] = []
        self._tickets: list[tuple[Any, ...]] = []
        self._journal: list[tuple[Any, ...]] = []

    def until_resumed(self, id: str, queue: str, priority: int, ticket: int) -> None:
        self._waiting.append((id,))
        self._tickets.append((id, queue, priority, ticket, 0, NEVER))
        self._note(id, "paused")

    def delayed(self, id: str, queue: str, priority: int, ticket: int, why: str) -> None:
        run_at = self._tx.now + _SUSPECT_AGAIN
        self._delayed.append((run_at, id))
        self._tickets.append((id, queue, priority, ticket, 0, run_at))
        self._note(id, why)

    def _note(self, id: str, why: str) -> None:
        self._journal.append((id, self._tx.now, Event.PARKED.value, "", json.dumps({"why": why})))

    def write(self) -> None:
        self._tx.many("park_waiting", self._waiting)
        self._tx.many("park_delayed", self._delayed)
        self._tx.many("replace_ticket", self._tickets)
        self._tx.many("insert_journal", self._journal)

"""Gates on SQLite: as in :mod:`ledger.postgres.gates`; here the transaction is the lock."""

import json
from collections.abc import Iterable, Sequence

from ledger.gates import COMING_S, Entering, Entry, decide, gate_of, is_sequence, rooms_of
from ledger.records import Due, Line
from ledger.sqlite.connection import Transaction
from ledger.states import Event, Outcome, State


def enter(tx: Transaction, asking: Sequence[Entering]) -> list[Entry]:
    gates = {gate.key: gate for ask in asking for gate in ask.gates}
    tx.many("keep_gate", [(gate.key, gate.rule, gate.capacity) for gate in gates.values()])
    rooms = rooms_of(tx.run("rooms", json.dumps(list(gates))))
    found = {ask.job: row for ask in asking if (row := tx.run("entering", ask.job, ask.epoch).fetchone())}
    answers, entered, blocked = decide(rooms, asking, {job: bool(row[0]) for job, row in found.items()})
    tx.many("insert_slot", [(gate.key, ask.job, ask.epoch) for ask in entered for gate in ask.gates])
    tx.many("starting", [(tx.now, ask.job, ask.epoch) for ask in entered])
    tx.many("drop_blocked", [(ask.job,) for ask in entered])
    for job, epoch, gate, why in blocked:
        _, priority, run_at, worker, claimed_at = found[job]
        tx.run("put_off", job)
        tx.run("drop_claim", worker, job)
        parked = (job, epoch, None, Outcome.PARKED.value, worker, claimed_at, tx.now, None, None, why, None, tx.number)
        tx.run("insert_attempt", *parked)
        tx.run("block", job, gate, priority, run_at, tx.now)
    full = {job: gate for job, _, gate, _ in blocked}
    # A job that was woken at another of its gates leaves its room there to the next.
    left = {gate.key for ask in asking if ask.job in full for gate in ask.gates if gate.key != full[ask.job]}
    tx.many("look", [(key,) for key in left])
    return answers


def join(tx: Transaction, job: str, line: Line) -> bool:
    """Give a new job its place; whether it is the first in line."""
    gate = gate_of(line)
    tx.run("keep_gate", gate.key, gate.rule, gate.capacity)
    first = tx.run("any_in_line", line.key).fetchone() is None
    tx.run("insert_line", line.key, job, line.hold, first, tx.now)
    return first


def held_by(tx: Transaction, jobs: Iterable[str]) -> dict[str, str]:
    """The gates these jobs are in, with their rules."""
    return dict(tx.run("gates_of", json.dumps(list(jobs))).fetchall())


def settle(tx: Transaction, gates: dict[str, str]) -> list[Due]:
    """Wake whoever there is room for in these gates now; to be sent after the commit."""
    woken: list[Due] = []
    for key, rule in gates.items():
        woken += _wake(tx, _heads(tx, key) if is_sequence(rule) else _let_in(tx, key))
    return woken


def tend(tx: Transaction, limit: int) -> list[Due]:
    marked = dict(tx.run("looks", limit).fetchall())
    tx.many("looked", [(key,) for key in marked])
    return settle(tx, marked)


def is_calm(tx: Transaction, after: str, limit: int) -> tuple[bool, str]:
    """Whether :func:`survey` would change nothing, and what it would answer."""
    rows = tx.run("survey", after, limit, tx.now - _COMING).fetchall()
    return not any(is_idle or disagrees for _, is_idle, disagrees in rows), rows[-1][0] if len(rows) == limit else ""


def survey(tx: Transaction, after: str, limit: int) -> str:
    rows = tx.run("survey", after, limit, tx.now - _COMING).fetchall()
    tx.many("look", [(key,) for key, _, disagrees in rows if disagrees])
    tx.many("drop_gate", [(key,) for key, is_idle, _ in rows if is_idle])
    return rows[-1][0] if len(rows) == limit else ""


_COMING = int(COMING_S * 1_000_000)


def _let_in(tx: Transaction, key: str) -> list[str]:
    """Of blocked jobs as many as there is room for, less those that were woken and are on their way."""
    tx.run("drop_dead_slots", key)
    tx.run("drop_strays", key, tx.now - _COMING)
    row = tx.run("room", key, tx.now - _COMING).fetchone()
    return [id for (id,) in tx.run("next_blocked", key, max(0, row[0]))] if row else []


def _heads(tx: Transaction, key: str) -> list[str]:
    """The first in line, if it has not been called; those before it have ended, and make room."""
    while row := tx.run("first_in_line", key).fetchone():
        place, job, called, hold, state = row
        if state in (State.DELAYED, State.WAITING, State.ACTIVE):
            return [] if called else [job]
        if state == State.FAILED and hold:
            return []
        tx.run("close_place" if state in (State.FAILED, State.CANCELLED) else "drop_place", place)
    return []


def _wake(tx: Transaction, jobs: Sequence[str]) -> list[Due]:
    """Their turn has come: a ticket for each, due at once, or when the job itself is."""
    due: list[Due] = []
    for job in jobs:
        row = tx.run("wake_look", job).fetchone()
        if row is None:
            tx.run("drop_blocked", job)
            continue
        id, queue, priority, actor, run_at, ticket, message_id, body = row
        state = State.DELAYED if run_at > tx.now else State.WAITING
        waits = state is State.WAITING
        at = tx.now + tx.publish_after if waits and not tx.embedded else run_at
        tx.run("call_up", state.value, ticket, id)
        tx.run("replace_ticket", id, queue, priority, ticket, tx.embedded and waits, at)
        tx.run("woken", tx.now, id)
        tx.run("called", id)
        if waits:
            tx.run("insert_journal", id, tx.now, Event.PROMOTED.value, "", "")
            due.append(Due(id, ticket, queue, priority, actor, message_id, body))
    return due

"""Tickets, and expiries, whose time has come."""

import json

from ledger.records import EXPIRY_AGAIN_S, Due
from ledger.sqlite.claim import NEVER
from ledger.sqlite.connection import Transaction
from ledger.states import Event, Reason, State


def promote(tx: Transaction, limit: int, resend_after_s: float) -> list[Due]:
    if not tx.embedded:
        tx.run("unready")  # left by a time on the embedded road: RabbitMQ has no message for them
    rows = tx.run("due_ready" if tx.embedded else "due_unsent", tx.now, limit).fetchall()
    paused = {row[0] for row in tx.run("paused")}
    # Put off until the resume, so that however many there are, none is read again before.
    tx.many("stamp", [(NEVER, row[0]) for row in rows if row[2] in paused])
    rows = [row for row in rows if row[2] not in paused]
    live = [row for row in rows if row[5] in (State.WAITING, State.DELAYED) and row[6] == row[1]]
    if len(live) < len(rows):
        tx.many("drop_ticket", [(row[0],) for row in rows if row not in live])
    delayed = [row[0] for row in live if row[5] == State.DELAYED]
    tx.many("wake", [(id,) for id in delayed])
    tx.many("insert_journal", [(id, tx.now, Event.PROMOTED.value, "", "") for id in delayed])
    if tx.embedded:
        tx.many("ready", [(row[0],) for row in live])
    else:
        again = tx.now + int(resend_after_s * 1_000_000)
        tx.many("stamp", [(again, row[0]) for row in live])
    live.sort(key=lambda row: (row[3], row[4]))  # the urgent first
    return [
        Due(id, ticket, queue, priority, actor, message_id, body, (tx.now - due_at) / 1e6)
        for id, ticket, queue, priority, due_at, _, _, actor, message_id, body in live
    ]


def next_due_s(tx: Transaction) -> float | None:
    row = tx.run("next_due").fetchone()
    if not tx.embedded and tx.run("any_ready").fetchone():
        return 0.0
    return (row[0] - tx.now) / 1e6 if row else None


def resend(tx: Transaction, queue: str | None, older_than_s: float, after: str, limit: int) -> tuple[int, str]:
    """Up to ``limit`` jobs whose ids come after ``after``: how many, and the last one's id (empty: there was none)."""
    before = tx.now - int(older_than_s * 1_000_000)
    asked = (before, after, limit)
    lost = tx.run("lost_of_queue", *asked, queue) if queue is not None else tx.run("lost", *asked)
    rows = lost.fetchall()
    tx.many("resent", [(id,) for id, *_ in rows])
    tickets = [(id, name, priority, ticket + 1, tx.embedded, tx.now) for id, name, priority, ticket in rows]
    tx.many("replace_ticket", tickets)
    tx.many("insert_journal", [(id, tx.now, Event.RESENT.value, "", "") for id, *_ in rows])
    return len(rows), rows[-1][0] if rows else ""


def expire(tx: Transaction, limit: int) -> list[str]:
    rows = tx.run("expired", tx.now, limit).fetchall()
    ends = [id for id, state, tried in rows if state in (State.WAITING, State.DELAYED) and not tried]
    # What a worker has in hand and has not begun may be given back.
    again = tx.now + int(EXPIRY_AGAIN_S * 1_000_000)
    stay = [(id, again) for id, state, tried in rows if state == State.ACTIVE and not tried]
    tx.many("fail", [(Reason.EXPIRED.value, tx.now, id) for id in ends])
    tx.many("drop_ticket", [(id,) for id in ends])
    tx.many("drop_expiry", [(id,) for id, *_ in rows])
    tx.many("set_expiry", stay)
    tx.many("look_of", [(id,) for id in ends])
    detail = json.dumps({"reason": Reason.EXPIRED})
    tx.many("insert_told", [(id, tx.now, Event.FAILED.value, "", detail, tx.number) for id in ends])
    return ends

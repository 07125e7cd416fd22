"""How jobs get into the ledger."""

import json
from collections.abc import Sequence

from ledger.instants import to_micros
from ledger.keys import Plan, Replaced
from ledger.records import Buried, Enqueued, NewJob
from ledger.sqlite import gates, keys
from ledger.sqlite.connection import Transaction
from ledger.sqlite.due import due
from ledger.states import Event, State
from ledger.text import clean


def record(tx: Transaction, jobs: Sequence[NewJob]) -> list[Enqueued]:
    """Insert the jobs that are not there yet; for ``enqueue`` and for what follows from a finish."""
    known = {row[0] for row in tx.run("known", json.dumps([job.id for job in jobs]))}
    new: dict[str, NewJob] = {}
    for job in jobs:
        if job.id not in known and _first_of_tick(tx, job):
            known.add(job.id)
            new[job.id] = job
    plan: Plan | None = None
    replaced: Replaced = {}
    if any(job.key is not None for job in new.values()):
        plan, replaced = keys.decide(tx, new)
        new = plan.new
    answers: list[Enqueued] = []
    rows, payloads, tickets, journal, expiries = [], [], [], [], []
    for job in jobs:
        if plan is not None and (answer := plan.answer(job, replaced)) is not None:
            answers.append(answer)
            continue
        if new.pop(job.id, None) is None:  # popped, so that its repeats are duplicates
            answers.append(Enqueued(job.id, State.WAITING, duplicate=True))
            continue
        run_at, state = due(tx, job)
        called = job.line is None or gates.join(tx, job.id, job.line)
        state = state if called else State.DELAYED
        marks = job.counted or None, job.line is not None or None
        rows.append((job.id, job.queue, job.actor, job.priority, state.value, tx.now, run_at, *marks))
        payloads.append((job.id, clean(job.message_id), job.body, job.producer))
        if not called:
            pass  # it gets a ticket when it is
        elif state is State.DELAYED:
            tickets.append((job.id, job.queue, job.priority, 1, 0, run_at))
        elif tx.embedded:
            tickets.append((job.id, job.queue, job.priority, 1, 1, run_at))
        elif not job.served:
            tickets.append((job.id, job.queue, job.priority, 1, 0, tx.now + tx.publish_after))
        if job.expires_ms is not None:
            expiries.append((job.id, run_at + job.expires_ms * 1000))
        if job.event is not Event.ENQUEUED:
            journal.append((job.id, tx.now, job.event.value, job.producer, ""))
        answers.append(Enqueued(job.id, state))
    tx.many("insert_job", rows)
    tx.many("insert_payload", payloads)
    tx.many("insert_ticket", tickets)
    tx.many("insert_journal", journal)
    tx.many("set_expiry", expiries)
    return answers


def bury(tx: Transaction, letters: Sequence[Buried]) -> None:
    known = {row[0] for row in tx.run("known", json.dumps([letter.id for letter in letters]))}
    new = {letter.id: letter for letter in letters if letter.id not in known}.values()
    tx.many(
        "insert_dead", [(x.id, clean(x.queue), clean(x.actor), x.reason.value, tx.now, tx.now, tx.now) for x in new]
    )
    tx.many("insert_payload", [(x.id, clean(x.message_id), x.body, "") for x in new])
    details = [json.dumps({"reason": x.reason, "error": clean(x.error)}, ensure_ascii=False) for x in new]
    told = [(x.id, tx.now, Event.BURIED.value, "", detail, tx.number) for x, detail in zip(new, details, strict=True)]
    tx.many("insert_told", told)


def _first_of_tick(tx: Transaction, job: NewJob) -> bool:
    if job.tick is None:
        return True
    schedule, fire_at = job.tick
    return tx.run("insert_tick", schedule, to_micros(fire_at), job.id).rowcount == 1

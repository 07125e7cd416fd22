"""Keys on SQLite: the transaction is the only one, so nothing here locks."""

import json

from ledger.keys import Holder, Plan, Replaced
from ledger.records import NewJob
from ledger.sqlite.connection import Transaction
from ledger.sqlite.due import due
from ledger.states import Event, State
from ledger.text import clean


def decide(tx: Transaction, jobs: dict[str, NewJob]) -> tuple[Plan, Replaced]:
    """Who is to be inserted; who replaces another has done so, and the keys have their new holders."""
    digests = {job.key.digest for job in jobs.values() if job.key is not None}
    rows = tx.run("holders", json.dumps(list(digests)), tx.now)
    holders = {key: Holder(*row) for key, *row in rows}
    plan = Plan(jobs.values(), holders, known=())
    replaced = {holder: _replace(tx, holder, job) for holder, job in plan.replace.items()}
    tx.many(
        "take_key",
        [
            (digest, holder, job.id, clean(job.message_id), None if ms is None else tx.now + ms * 1000)
            for digest, holder, job, ms in plan.taken()
        ],
    )
    return plan, replaced


def _replace(tx: Transaction, holder: str, job: NewJob) -> tuple[str, int]:
    run_at, state = due(tx, job)
    was = tx.run("replaced_message", holder).fetchone()
    [ticket] = tx.run("replace_job", job.queue, job.priority, state.value, run_at, holder).fetchone()
    tx.run("drop_blocked", holder)  # it comes by itself
    tx.run("replace_payload", clean(job.message_id), job.body, job.producer, holder)
    if job.expires_ms is None:
        tx.run("drop_expiry", holder)
    else:
        tx.run("set_expiry", holder, run_at + job.expires_ms * 1000)
    waits = state is State.WAITING and not tx.embedded and not job.served
    ready = tx.embedded and state is State.WAITING
    due_at = tx.now + tx.publish_after if waits else run_at
    tx.run("replace_ticket", holder, job.queue, job.priority, ticket, ready, due_at)
    detail = json.dumps({"message_id": was[0] if was else None})
    tx.run("insert_journal", holder, tx.now, Event.REPLACED.value, job.producer, detail)
    return state.value, ticket

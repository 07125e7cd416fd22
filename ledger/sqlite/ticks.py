"""How ticks of schedules are decided."""

import json
from collections.abc import Mapping, Sequence

from ledger.instants import from_micros, to_micros
from ledger.records import Enqueued
from ledger.sqlite.connection import Transaction
from ledger.sqlite.enqueue import record
from ledger.ticks import LEASE, ScheduleRow, Tick, Ticked, TickOutcome, advance, decide, overtaken, settled


def tick(tx: Transaction, holder: str, term: int, ticks: Sequence[Tick]) -> list[Ticked] | None:
    """One transaction, around this."""
    if not tx.run("hold_lease", LEASE, holder, term).fetchone():
        return None
    rows = {
        key: ScheduleRow(revision, from_micros(done_until), *rest)
        for key, revision, done_until, *rest in tx.run("schedule_rows", json.dumps([x.schedule for x in ticks]))
    }
    answers = [decide(tick, rows.get(tick.schedule)) for tick in ticks]
    _overtake(tx, overtaken(ticks, answers, rows))
    jobs = [x.job for x, answer in zip(ticks, answers, strict=True) if x.job and answer.outcome is TickOutcome.SENT]
    recorded: dict[str, Enqueued] = {}
    if jobs:
        recorded = {job.id: answer for job, answer in zip(jobs, record(tx, jobs), strict=True)}
    answers = [settled(x, answer, recorded) for x, answer in zip(ticks, answers, strict=True)]
    noted = []
    for x, answer in zip(ticks, answers, strict=True):
        if answer.outcome is None or x.fire_at <= rows[x.schedule].done_until:
            continue
        advance(x, answer, rows[x.schedule])
        late_ms = max(0, tx.now - to_micros(x.due_at)) // 1000
        noted.append((x.schedule, to_micros(x.fire_at), answer.outcome.value, answer.why, tx.now, late_ms))
    tx.many("note_tick", noted)
    changed = {key: rows[key] for key, *_ in noted}
    tx.many(
        "advance_schedule",
        [(to_micros(row.done_until), row.last_job, row.failures, key) for key, row in changed.items()],
    )
    return answers


def _overtake(tx: Transaction, old: Mapping[str, str]) -> None:
    """Cancel these jobs, or ask those that run to stop."""
    for job, schedule in old.items():
        event = "cancel_requested"
        if not tx.run("ask_to_stop", job).rowcount:
            if not tx.run("cancel", tx.now, job).rowcount:
                continue
            event = "cancelled"
            tx.run("drop_ticket", job)
        detail = json.dumps({"why": "its next tick came"})
        tx.many("insert_journal", [(job, tx.now, event, f"schedule {schedule}", detail)])

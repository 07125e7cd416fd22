"""How jobs get into the ledger."""

import json
from collections.abc import Sequence
from datetime import datetime
from operator import attrgetter

from ledger.keys import Plan, Replaced
from ledger.postgres import gates, keys
from ledger.postgres.arrays import literal, moments, numbers, texts
from ledger.postgres.connection import Statements
from ledger.records import Buried, Enqueued, NewJob
from ledger.states import Event, State
from ledger.text import clean

_id = attrgetter("id")


def is_plain(jobs: Sequence[NewJob]) -> bool:
    """Whether :func:`record` is a single statement, which needs no transaction around it."""
    return not any(
        job.tick is not None
        or job.key is not None
        or job.line is not None
        or job.expires_ms is not None
        or job.event is not Event.ENQUEUED
        for job in jobs
    )


def record(cursor: Statements, jobs: Sequence[NewJob], *, embedded: bool, publish_after_s: float) -> list[Enqueued]:
    """Insert the jobs that are not there yet; for ``enqueue`` and for what follows from a finish."""
    new: dict[str, NewJob] = {}
    for job in jobs:
        new.setdefault(job.id, job)
    if any(job.tick is not None for job in jobs):
        new = _first_of_tick(cursor, new)
    if lines := gates.sequences(new.values()):
        gates.lock(cursor, lines)
    plan: Plan | None = None
    replaced: Replaced = {}
    if any(job.key is not None for job in new.values()):
        plan, replaced = keys.decide(cursor, new, embedded, publish_after_s)
        new = plan.new
    states = _insert(cursor, list(new.values()), embedded, publish_after_s) if new else {}
    if lines:
        states |= gates.join(cursor, [job for job in new.values() if job.id in states])
    _expire(cursor, new, states, plan)
    adopted = [job for job in new.values() if job.event is not Event.ENQUEUED and job.id in states]
    if adopted:
        note(cursor, [(job.id, job.event, job.producer, "") for job in adopted])
    answers: list[Enqueued] = []
    for job in jobs:
        if plan is not None and (answer := plan.answer(job, replaced)) is not None:
            answers.append(answer)
            continue
        # The first of an id is the one recorded; popped, so that its repeats are duplicates.
        state = states.pop(job.id, None)
        new_state = State.WAITING if state is None else State(state)
        answers.append(Enqueued(job.id, new_state, duplicate=state is None))
    return answers


def _expire(cursor: Statements, new: dict[str, NewJob], states: dict[str, str], plan: Plan | None) -> None:
    """When the jobs just recorded, and those that were replaced, are not wanted any more."""
    replaced = plan.replace if plan is not None else {}
    times = {
        id: job.expires_ms
        for id, job in (*((id, new[id]) for id in states), *replaced.items())
        if job.expires_ms is not None
    }
    if times:
        cursor.run("set_expiries", literal(times), numbers(times.values()))
    if ever := replaced.keys() - times.keys():
        cursor.run("drop_expiries", literal(ever))


def bury(cursor: Statements, letters: Sequence[Buried]) -> None:
    new = {letter.id: letter for letter in letters}.values()
    cursor.run(
        "bury",
        literal(map(_id, new)),
        texts(x.message_id for x in new),
        texts(x.queue for x in new),
        texts(x.actor for x in new),
        [x.body for x in new],
        literal(x.reason for x in new),
        texts(json.dumps({"reason": x.reason, "error": clean(x.error)}, ensure_ascii=False) for x in new),
    )


def note(cursor: Statements, rows: Sequence[tuple[str, str, str, str]]) -> None:
    """Add (job, event, actor, detail) to the journal."""
    ids, events, actors, details = zip(*rows, strict=True)
    cursor.run("note", literal(ids), literal(events), texts(actors), texts(details))


def _insert(cursor: Statements, jobs: Sequence[NewJob], embedded: bool, publish_after_s: float) -> dict[str, str]:
    rows = cursor.run(
        "enqueue",
        literal(map(_id, jobs)),
        texts([job.message_id for job in jobs]),
        texts([job.queue for job in jobs]),
        texts([job.actor for job in jobs]),
        numbers(job.priority for job in jobs),
        [job.body for job in jobs],
        texts([job.producer for job in jobs]),
        numbers(job.delay_ms for job in jobs),
        moments(job.run_at for job in jobs),
        literal(job.id for job in jobs if job.served),
        "t" if embedded else "f",
        str(publish_after_s),
        # Shorter than the others: the missing are null.
        literal("t" if job.counted else "NULL" for job in jobs) if any(job.counted for job in jobs) else "{}",
    )
    return dict(rows)


def _first_of_tick(cursor: Statements, jobs: dict[str, NewJob]) -> dict[str, NewJob]:
    """Without the jobs whose tick is recorded already."""
    first: dict[tuple[str, datetime], str] = {}
    for job in jobs.values():
        if job.tick is not None:
            first.setdefault(job.tick, job.id)
    schedules, fire_times = zip(*first, strict=True)
    ids = first.values()
    won = {row[0] for row in cursor.run("claim_ticks", texts(schedules), moments(fire_times), literal(ids))}
    return {id: job for id, job in jobs.items() if job.tick is None or id in won}

"""How ticks of schedules are decided."""

from collections.abc import Callable, Sequence

from ledger.postgres import keys
from ledger.postgres.arrays import literal, moments, numbers, texts
from ledger.postgres.connection import Cursor
from ledger.records import Enqueued, NewJob
from ledger.ticks import LEASE, ScheduleRow, Tick, Ticked, TickOutcome, advance, decide, overtaken, settled

Record = Callable[[Sequence[NewJob]], list[Enqueued]]


def tick(cursor: Cursor, holder: str, term: int, ticks: Sequence[Tick], record: Record) -> list[Ticked] | None:
    """One transaction, around this.  Locks the lease, schedules by key, then as an enqueue."""
    if not cursor.run("hold_lease", LEASE, holder, str(term)):
        return None
    rows = {
        key: ScheduleRow(*row) for key, *row in cursor.run("lock_schedules", texts({tick.schedule for tick in ticks}))
    }
    answers = [decide(tick, rows.get(tick.schedule)) for tick in ticks]
    jobs = [x.job for x, answer in zip(ticks, answers, strict=True) if x.job and answer.outcome is TickOutcome.SENT]
    if old := overtaken(ticks, answers, rows):
        keys.lock(cursor, jobs)
        cursor.run("overtake", literal(old), texts(old.values()))
    recorded = {job.id: answer for job, answer in zip(jobs, record(jobs), strict=True)} if jobs else {}
    answers = [settled(x, answer, recorded) for x, answer in zip(ticks, answers, strict=True)]
    decided = [
        (x, answer)
        for x, answer in zip(ticks, answers, strict=True)
        if answer.outcome is not None and x.fire_at > rows[x.schedule].done_until
    ]
    if decided:
        for x, answer in decided:
            advance(x, answer, rows[x.schedule])
        _write(cursor, decided, rows)
    return answers


def _write(cursor: Cursor, decided: Sequence[tuple[Tick, Ticked]], rows: dict[str, ScheduleRow]) -> None:
    cursor.run(
        "note_ticks",
        texts(x.schedule for x, _ in decided),
        moments(x.fire_at for x, _ in decided),
        moments(x.due_at for x, _ in decided),
        literal(str(answer.outcome) for _, answer in decided),
        texts(answer.why for _, answer in decided),
    )
    changed = {x.schedule: rows[x.schedule] for x, _ in decided}
    cursor.run(
        "advance_schedules",
        texts(changed),
        moments(row.done_until for row in changed.values()),
        literal(row.last_job or "NULL" for row in changed.values()),
        numbers(row.failures for row in changed.values()),
    )

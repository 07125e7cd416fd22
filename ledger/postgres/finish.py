"""How attempts end, and what commits with their end."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter

from ledger.flows import drive
from ledger.postgres.arrays import literal, numbers, texts
from ledger.postgres.connection import Cursor, Row
from ledger.postgres.flows import Flows
from ledger.records import Enqueued, Finish, Finished, NewJob, to_send
from ledger.states import FINISHED, Outcome, State
from ledger.text import clean_or_none

_id = attrgetter("id")
_epoch = attrgetter("epoch")
_outcome = attrgetter("outcome")
_DONE = frozenset({Outcome.COMPLETED, Outcome.SKIPPED})
_STATES = {state.value: state for state in State}


def is_single(finishes: Iterable[Finish]) -> bool:
    """Whether nothing but the jobs themselves is written: one statement, which needs no transaction around it."""
    return not any(
        f.gated or f.follow_ups or f.group is not None or f.circuit is not None or f.step is not None for f in finishes
    )


def finish(
    cursor: Cursor,
    worker: int,
    finishes: Sequence[Finish],
    embedded: bool,
    record: Callable[[list[NewJob]], list[Enqueued]],
) -> list[Finished]:
    """Answers in order; ``record`` inserts what follows, in the same transaction."""
    unique = {(f.id, f.epoch): f for f in reversed(finishes)}
    if len(unique) < len(finishes):
        first = list(unique.values())
        answers = finish(cursor, worker, first, embedded, record)
        by_key = dict(zip(unique, answers, strict=True))
        return [by_key[f.id, f.epoch] for f in finishes]
    rows = _record_end(cursor, finishes, embedded)
    ended: list[Finished | None] = [None] * len(finishes)
    follow: list[tuple[int, str]] = []
    deferred: list[Finish] = []
    steps: list[int] = []
    for n, state, now, outcome in rows:
        f = finishes[n - 1]
        ended[n - 1] = Finished(f.id, True, _STATES[state])
        # What was to follow a retry does not follow the cancel it was turned into.
        if now and outcome == f.outcome and (f.follow_ups or f.group is not None):
            follow.append((n - 1, state))
        if now and outcome == Outcome.PARKED and f.circuit is not None:
            deferred.append(f)
        if now and f.step is not None and _STATES[state] in FINISHED:
            steps.append(n - 1)
    if deferred:
        cursor.run("defer", literal(map(_id, deferred)), texts(f.circuit or "" for f in deferred))
    if follow or steps:
        _follow(cursor, finishes, ended, follow, steps, record)
    if len(rows) < len(finishes):
        _committed_before(cursor, finishes, ended)
    return ended  # type: ignore[return-value]


def _record_end(cursor: Cursor, finishes: Sequence[Finish], embedded: bool) -> list[Row]:
    if all(f.outcome in _DONE and f.result is None and f.error_type is None for f in finishes):
        return cursor.run(
            "finish_completed",
            literal(map(_id, finishes)),
            numbers(map(_epoch, finishes)),
            literal(map(_outcome, finishes)),
        )
    return cursor.run("finish", json.dumps([_details(f) for f in finishes]), "t" if embedded else "f")


def _details(f: Finish) -> dict[str, str | int | None]:
    row: dict[str, str | int | None] = {"id": f.id, "epoch": f.epoch, "outcome": f.outcome}
    if f.outcome not in _DONE or f.error_type is not None:
        row |= {
            "delay_ms": f.delay_ms,
            "reason": f.reason,
            "error_type": clean_or_none(f.error_type),
            "error_message": clean_or_none(f.error_message),
            "traceback": clean_or_none(f.traceback),
        }
    if f.result is not None:
        row |= {"result": f.result.hex(), "result_ttl_ms": f.result_ttl_ms}
    return row


def _follow(
    cursor: Cursor,
    finishes: Sequence[Finish],
    ended: list[Finished | None],
    follow: Sequence[tuple[int, str]],
    steps: Sequence[int],
    record: Callable[[list[NewJob]], list[Enqueued]],
) -> None:
    new: dict[int, list[NewJob]] = {n: list(finishes[n].follow_ups) for n, _ in follow}
    groups = [
        (group, n) for n, state in follow if state == State.COMPLETED and (group := finishes[n].group) is not None
    ]
    last = dict(groups)
    # In order: two batches that count down the same groups must not wait for each other.
    for group, parties in sorted(Counter(group for group, _ in groups).items()):
        left = cursor.run("count_down", group, str(parties))
        if left and left[0][0] <= 0:
            cursor.run("drop_group", group)
            new[last[group]] += finishes[last[group]].group_jobs
    flows = Flows(cursor)
    at = {finishes[n].id: n for n in steps}
    for flow, ends in drive.ends_of((finishes[n], ended[n]) for n in steps):
        new.setdefault(at[ends[-1][0]], []).extend(drive.settle(flows, flow, ends))
    jobs = [job for some in new.values() for job in some]
    if not jobs:
        return
    answers = dict(zip(map(id, jobs), record(jobs), strict=True))
    for n, some in new.items():
        send = to_send(some, [answers[id(job)] for job in some])
        ended[n] = Finished(finishes[n].id, True, ended[n].state, send)  # type: ignore[union-attr]


def _committed_before(cursor: Cursor, finishes: Sequence[Finish], ended: list[Finished | None]) -> None:
    """The attempt is there when a finish had been committed and only its answer was lost."""
    missing = [n for n, answer in enumerate(ended) if answer is None]
    rows = cursor.run(
        "finished_before", literal(finishes[n].id for n in missing), numbers(finishes[n].epoch for n in missing)
    )
    for n in missing:
        ended[n] = Finished(finishes[n].id, False)
    for k, state in rows:
        n = missing[k - 1]
        ended[n] = Finished(finishes[n].id, True, _STATES.get(state))

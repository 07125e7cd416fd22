"""How attempts end, and what commits with their end."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ledger.flows import drive
from ledger.records import CRITICAL, Due, Finish, Finished, NewJob, send_with, to_send
from ledger.sqlite import gates
from ledger.sqlite.connection import Transaction
from ledger.sqlite.enqueue import record
from ledger.sqlite.flows import Flows
from ledger.states import FINISHED, Outcome, Reason, State
from ledger.text import clean_or_none

#: where each outcome leads, and whether it spends an attempt
_END: dict[Outcome, tuple[State, bool]] = {
    Outcome.COMPLETED: (State.COMPLETED, True),
    Outcome.SKIPPED: (State.COMPLETED, True),
    Outcome.FAILED: (State.FAILED, True),
    Outcome.CANCELLED: (State.CANCELLED, False),
    Outcome.RETRYING: (State.DELAYED, True),
    Outcome.SNOOZED: (State.DELAYED, False),
    Outcome.PARKED: (State.DELAYED, False),
    Outcome.INTERRUPTED: (State.WAITING, False),
}


def finish(tx: Transaction, worker: int, finishes: Sequence[Finish]) -> list[Finished]:
    rows = {row[0]: row for row in tx.run("finish_look", worker, json.dumps([f.id for f in finishes]))}
    done: dict[tuple[str, int], Finished] = {}
    ended: list[tuple[Finish, State]] = []
    follow: list[tuple[Finish, State]] = []
    jobs, attempts, claims, tickets, results, deferrals = [], [], [], [], [], []
    for f in finishes:
        row = rows.get(f.id)
        if (f.id, f.epoch) in done:
            continue
        if row is None or row[1] != f.epoch:
            done[f.id, f.epoch] = _committed_before(tx, f)
            continue
        _, _, queue, priority, ticket, spent, cancel_requested, claimed_at = row
        outcome = f.outcome
        state, spends = _END[outcome]
        if cancel_requested and state in (State.DELAYED, State.WAITING):
            outcome = Outcome.CANCELLED
            state, spends = _END[outcome]
        spent += spends
        run_at = due_at = finished_at = None
        if state is State.DELAYED or state is State.WAITING:
            ticket += 1
            run_at = tx.now + (f.delay_ms * 1000 if state is State.DELAYED else 0)
            due_at = run_at if outcome is not Outcome.PARKED else None  # put off, it stays due since when it was
            if outcome is Outcome.PARKED and tx.run("reserved", f.id).fetchone():
                priority = CRITICAL  # a start that is reserved is not to be missed behind those who have not asked yet
            tickets.append((f.id, queue, priority, ticket, tx.embedded and state is State.WAITING, run_at))
            if f.circuit is not None and outcome is Outcome.PARKED:
                deferrals.append((f.id, ticket, f.circuit))
        else:
            finished_at = tx.now
        reason = (f.reason or Reason.RETRIES_EXHAUSTED).value if state is State.FAILED else None
        jobs.append((state.value, ticket, spent, reason, due_at, finished_at, f.id))
        attempts.append(
            (f.id, f.epoch, spent if spends else None, outcome.value, worker, claimed_at, tx.now, run_at,
             clean_or_none(f.error_type), clean_or_none(f.error_message), clean_or_none(f.traceback), tx.number)
        )  # fmt: skip
        claims.append((worker, f.id))
        if f.result is not None:
            results.append((f.id, f.result, tx.now + f.result_ttl_ms * 1000))
        done[f.id, f.epoch] = Finished(f.id, True, state)
        ended.append((f, state))
        if outcome is f.outcome:  # what was to follow a retry does not follow the cancel it was turned into
            follow.append((f, state))
    tx.many("end", jobs)
    tx.many("insert_attempt", attempts)
    tx.many("drop_claim", claims)
    tx.many("replace_ticket", tickets)
    tx.many("replace_result", results)
    tx.many("defer", deferrals)
    for f, state in follow:  # last: what follows may have the key of a job that ends here
        if send := _follow(tx, f, state):
            done[f.id, f.epoch] = Finished(f.id, True, state, send)
    steps = [(f, done[f.id, f.epoch]) for f, state in ended if f.step is not None and state in FINISHED]
    for flow, ends in drive.ends_of(steps):
        if new := drive.settle(Flows(tx), flow, ends):
            last = next(f for f, _ in reversed(steps) if f.id == ends[-1][0])
            before = done[last.id, last.epoch]
            done[last.id, last.epoch] = replace(before, send=(*before.send, *to_send(new, record(tx, new))))
    answers = [done[f.id, f.epoch] for f in finishes]
    if gated := [f.id for f, _ in ended if f.gated]:
        return send_with(answers, gates.settle(tx, gates.held_by(tx, gated)))
    return answers


def _committed_before(tx: Transaction, f: Finish) -> Finished:
    """The attempt is there when this finish had been committed and only its answer was lost."""
    row = tx.run("ended_before", f.id, f.epoch).fetchone()
    return Finished(f.id, True, State(row[0])) if row else Finished(f.id, False)


def _follow(tx: Transaction, f: Finish, state: State) -> Sequence[NewJob | Due]:
    new: list[NewJob] = list(f.follow_ups)
    if f.group is not None and state is State.COMPLETED:
        left: tuple[Any, ...] | None = tx.run("count_down", f.group).fetchone()
        if left is not None and left[0] == 0:
            tx.run("drop_group", f.group)
            new += f.group_jobs
    if not new:
        return ()
    return to_send(new, record(tx, new))

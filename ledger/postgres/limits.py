"""Rate limits: the rows of the limits are locked; what they let through is computed in :mod:`ledger.gcra`."""

from collections.abc import Sequence

from ledger.gcra import Line, Pace, Share, Slot, Wanted, hush, rules_of
from ledger.gcra import reserve as reserve_in
from ledger.postgres.arrays import literal, numbers, texts
from ledger.postgres.connection import Cursor, Row


def reserve(cursor: Cursor, wanted: Sequence[Wanted], soon_s: float) -> list[float]:
    lines, changed, now = _locked(cursor, [share for want in wanted for share in want.shares])
    held = {
        job: Slot(at, rules_of(rules))
        for job, at, rules in cursor.run("reserved", literal({want.job for want in wanted}))
    }
    soon = round(soon_s * 1_000_000)
    slots = [reserve_in(lines, now, want.shares, changed, held.get(want.job), soon=soon) for want in wanted]
    both = list(zip(wanted, slots, strict=True))
    _pay(cursor, lines)
    if starts := [(want, slot.at) for want, slot in both if slot.at - now <= soon]:
        ids = literal(want.job for want, _ in starts)
        cursor.run("starting", ids, numbers(want.epoch for want, _ in starts), numbers(at for _, at in starts))
        cursor.run("drop_reservations", ids)
    if waits := [(want.job, slot) for want, slot in both if slot.at - now > soon]:
        rules = texts("\n".join(slot.rules) for _, slot in waits)
        cursor.run("keep_reservations", literal(job for job, _ in waits), numbers(slot.at for _, slot in waits), rules)
    return [(slot.at - now) / 1_000_000 for slot in slots]


def slow(cursor: Cursor, shares: Sequence[Share], delay_s: float) -> None:
    lines, changed, now = _locked(cursor, shares)
    hush(lines, now, shares, changed, round(delay_s * 1_000_000))
    _pay(cursor, lines)


def _locked(cursor: Cursor, shares: Sequence[Share]) -> tuple[dict[str, Line], dict[str, Pace], int]:
    """How far each limit is used up, what operators have changed, and the time, read once all are locked."""
    named = {share.key for share in shares}
    keys = texts(sorted(named))
    rows: list[Row] = []
    while len(rows) < len(named):  # retention may drop one in between
        cursor.run("add_limits", keys)
        rows = cursor.run("lock_limits", keys)
    lines = {key: Line(paid, begun) for key, paid, begun in rows}
    rules = cursor.run("changed_limits", texts({share.rule for share in shares}))
    changed = {rule: Pace.of(count, per_s, burst) for rule, count, per_s, burst in rules}
    return lines, changed, cursor.run("micros")[0][0]


def _pay(cursor: Cursor, lines: dict[str, Line]) -> None:
    paid, begun = (numbers(values) for values in zip(*((x.paid, x.begun) for x in lines.values()), strict=True))
    cursor.run("pay", texts(lines), paid, begun)

"""Rate limits: as in :mod:`ledger.postgres.limits`; here the transaction is the lock."""

from collections.abc import Sequence

from ledger.gcra import Line, Pace, Share, Slot, Wanted, hush, rules_of
from ledger.gcra import reserve as reserve_in
from ledger.sqlite.connection import Transaction


def reserve(tx: Transaction, wanted: Sequence[Wanted], soon_s: float) -> list[float]:
    lines, changed = _state(tx, [share for want in wanted for share in want.shares])
    soon = round(soon_s * 1_000_000)
    waits: list[float] = []
    for want in wanted:
        row = tx.run("reserved", want.job).fetchone()
        held = Slot(row[0], rules_of(row[1])) if row else None
        slot = reserve_in(lines, tx.now, want.shares, changed, held, soon=soon)
        waits.append((slot.at - tx.now) / 1_000_000)
        if slot.at - tx.now <= soon:
            tx.run("starting", slot.at, want.job, want.epoch)
            tx.run("drop_reservation", want.job)
        else:
            tx.run("keep_reservation", want.job, slot.at, "\n".join(slot.rules))
    _pay(tx, lines)
    return waits


def slow(tx: Transaction, shares: Sequence[Share], delay_s: float) -> None:
    lines, changed = _state(tx, shares)
    hush(lines, tx.now, shares, changed, round(delay_s * 1_000_000))
    _pay(tx, lines)


def _state(tx: Transaction, shares: Sequence[Share]) -> tuple[dict[str, Line], dict[str, Pace]]:
    lines: dict[str, Line] = {}
    changed: dict[str, Pace] = {}
    for share in shares:
        if share.key not in lines and (row := tx.run("limit", share.key).fetchone()):
            lines[share.key] = Line(*row)
        if share.rule not in changed and (row := tx.run("changed_limit", share.rule).fetchone()):
            changed[share.rule] = Pace.of(*row)
    return lines, changed


def _pay(tx: Transaction, lines: dict[str, Line]) -> None:
    tx.many("pay", [(key, line.paid, line.begun) for key, line in lines.items()])

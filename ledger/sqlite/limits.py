"""Rate limits: as in :mod:`ledger.postgres.limits`; here the transaction is the lock."""

from collections.abc import Sequence

from ledger.gcra import Pace, Share, Slot, Wanted, hush, rules_of
from ledger.gcra import reserve as reserve_in
from ledger.sqlite.connection import Transaction


def reserve(tx: Transaction, wanted: Sequence[Wanted], soon_s: float) -> list[float]:
    paid, changed = _state(tx, [share for want in wanted for share in want.shares])
    soon = round(soon_s * 1_000_000)
    waits: list[float] = []
    for want in wanted:
        row = tx.run("reserved", want.job).fetchone()
        held = Slot(row[0], rules_of(row[1])) if row else None
        slot = reserve_in(paid, tx.now, want.shares, changed, held, soon=soon)
        waits.append((slot.at - tx.now) / 1_000_000)
        if slot.at - tx.now <= soon:
            tx.run("starting", slot.at, want.job, want.epoch)
            tx.run("drop_reservation", want.job)
        else:
            tx.run("keep_reservation", want.job, slot.at, "\n".join(slot.rules))
    tx.many("pay", list(paid.items()))
    return waits


def slow(tx: Transaction, shares: Sequence[Share], delay_s: float) -> None:
    paid, changed = _state(tx, shares)
    hush(paid, tx.now, shares, changed, round(delay_s * 1_000_000))
    tx.many("pay", list(paid.items()))


def _state(tx: Transaction, shares: Sequence[Share]) -> tuple[dict[str, int], dict[str, Pace]]:
    paid: dict[str, int] = {}
    changed: dict[str, Pace] = {}
    for share in shares:
        if share.key not in paid and (row := tx.run("limit", share.key).fetchone()):
            paid[share.key] = row[0]
        if share.rule not in changed and (row := tx.run("changed_limit", share.rule).fetchone()):
            changed[share.rule] = Pace.of(*row)
    return paid, changed

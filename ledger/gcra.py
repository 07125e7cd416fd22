"""Rate limits as reservations: the generic cell rate algorithm, pure.

A limit is one number, the moment at which everything it has let through would be paid off (its theoretical arrival
time).  A start costs one interval; up to ``burst`` of them may be owed.  All moments here are microseconds.

Source: ITU-T I.371, in the form of virtual scheduling.
"""

from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast one limit lets jobs start."""

    interval: float  #: microseconds per start
    burst: float  #: starts that may come at once

    @classmethod
    def of(cls, count: float, per_s: float, burst: float) -> "Pace":
        return cls(per_s * 1_000_000 / count, burst)


@dataclass(frozen=True, slots=True)
class Share:
    """What one job takes of one limit.

    ``key`` is what is counted (one user's mails); ``rule`` is the name under which an operator may have changed
    the pace of all such keys.
    """

    key: str
    rule: str
    pace: Pace
    cost: int = 1


@dataclass(frozen=True, slots=True)
class Wanted:
    """A job that asks when it may start."""

    job: str
    epoch: int
    shares: Sequence[Share]


@dataclass(frozen=True, slots=True)
class Slot:
    """A reserved start: it is paid for in the limits of these rules."""

    at: int
    rules: frozenset[str] = frozenset()


def reserve(
    paid: MutableMapping[str, int],
    now: int,
    shares: Sequence[Share],
    changed: Mapping[str, Pace],
    held: Slot | None = None,
    *,
    soon: int = 0,
) -> Slot:
    """The first moment from ``now`` at which all these limits let the job start; it is paid for in ``paid``.

    Is that no more than ``soon`` away, it is final.  Else only the limit that makes it wait is paid: a place in all of
    them, so far ahead, would be in the way of jobs that share only the others.  Asked again with what was ``held``,
    a limit is not paid twice, unless the job comes, or must start, more than an interval after its slot: many that
    were kept from their slots would else start all at once.
    """
    paces = {share.rule: changed.get(share.rule, share.pace) for share in shares}

    def earliest(share: Share) -> int:
        return round(paid.get(share.key, 0) - owed(share, paces[share.rule]))

    def late(share: Share, start: int) -> bool:
        return held is None or share.rule not in held.rules or start - held.at > paces[share.rule].interval

    start = max(now, held.at) if held is not None else now
    unpaid: list[Share] = []
    while more := [share for share in shares if share not in unpaid and late(share, start)]:
        unpaid += more
        start = max(start, *map(earliest, more))
    if start - now > soon:
        unpaid = [share for share in unpaid if earliest(share) == start]
    kept = {share.rule for share in shares if not late(share, start)}
    for share in unpaid:
        paid[share.key] = round(max(start, paid.get(share.key, 0)) + share.cost * paces[share.rule].interval)
    return Slot(start, frozenset(kept.union(share.rule for share in unpaid)))


def hush(
    paid: MutableMapping[str, int], now: int, shares: Sequence[Share], changed: Mapping[str, Pace], delay: int
) -> None:
    """Reserve no further start in these limits within ``delay``."""
    for share in shares:
        until = now + round(delay + owed(share, changed.get(share.rule, share.pace)))
        paid[share.key] = max(paid.get(share.key, 0), until)


def owed(share: Share, pace: Pace) -> float:
    """How much may be owed when the job starts; what costs more than the burst starts when nothing is."""
    return max(0.0, pace.burst - share.cost) * pace.interval


def rules_of(text: str) -> frozenset[str]:
    """The rules of a slot as they are kept, one per line."""
    return frozenset(text.split("\n")) if text else frozenset()

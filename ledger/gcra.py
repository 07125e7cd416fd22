"""Rate limits as reservations: the generic cell rate algorithm, pure.

A limit is two moments (theoretical arrival times): when all the slots it has given would be paid off, which says
where the next one is; and the same of the starts themselves, which says how soon a job may start that missed its slot.
A start costs one interval; up to ``burst`` of them may be owed.  All moments here are microseconds.

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


@dataclass(slots=True)
class Line:
    """How far one limit is used up."""

    paid: int = 0  #: by the slots it has given; never before ``begun``
    begun: int = 0  #: by the jobs that started


def reserve(
    lines: MutableMapping[str, Line],
    now: int,
    shares: Sequence[Share],
    changed: Mapping[str, Pace],
    held: Slot | None = None,
    *,
    soon: int = 0,
) -> Slot:
    """The first moment from ``now`` at which all these limits let the job start; it is paid for in ``lines``.

    Is that no more than ``soon`` away, it is final.  Else only the limit that makes it wait is paid: a place in all of
    them, so far ahead, would be in the way of jobs that share only the others.

    Asked again with what was ``held``, a limit is not paid twice.  Who comes late for a slot starts as soon as the
    starts before it allow; is that not soon, and more than an interval after its slot, it pays again and takes its
    place behind all the others: many that were kept from their slots would else ask again and again.
    """
    paces = {share.rule: changed.get(share.rule, share.pace) for share in shares}
    for share in shares:
        lines.setdefault(share.key, Line())

    def earliest(share: Share) -> int:
        return round(lines[share.key].paid - owed(share, paces[share.rule]))

    def conforms(share: Share) -> int:
        return round(lines[share.key].begun - owed(share, paces[share.rule]))

    kept = [share for share in shares if held is not None and share.rule in held.rules]
    unpaid = [share for share in shares if share not in kept]
    asked = now if held is None else held.at
    start = max([now, asked, *map(earliest, unpaid), *map(conforms, kept)])
    if start - now > soon:
        while missed := [share for share in kept if start - asked > paces[share.rule].interval]:
            kept = [share for share in kept if share not in missed]
            unpaid += missed
            start = max(start, *map(earliest, missed))
        unpaid = [share for share in unpaid if earliest(share) == start]
    for share in unpaid:
        line = lines[share.key]
        line.paid = round(max(start, line.paid) + share.cost * paces[share.rule].interval)
    if start - now <= soon:
        for share in shares:
            line = lines[share.key]
            line.begun = round(max(start, line.begun) + share.cost * paces[share.rule].interval)
            line.paid = max(line.paid, line.begun)
    return Slot(start, frozenset(share.rule for share in (*kept, *unpaid)))


def hush(
    lines: MutableMapping[str, Line], now: int, shares: Sequence[Share], changed: Mapping[str, Pace], delay: int
) -> None:
    """Reserve no further start in these limits within ``delay``."""
    for share in shares:
        until = now + round(delay + owed(share, changed.get(share.rule, share.pace)))
        line = lines.setdefault(share.key, Line())
        line.paid = max(line.paid, until)


def owed(share: Share, pace: Pace) -> float:
    """How much may be owed when the job starts; what costs more than the burst starts when nothing is."""
    return max(0.0, pace.burst - share.cost) * pace.interval


def rules_of(text: str) -> frozenset[str]:
    """The rules of a slot as they are kept, one per line."""
    return frozenset(text.split("\n")) if text else frozenset()

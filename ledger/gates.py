"""Gates: how many attempts may share something.  Who may enter, decided for both databases; and what is shared.

A job that finds a gate full is *blocked*: delayed, without a ticket, until the finish that frees a slot wakes it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from ledger.records import Line

#: A job that was woken counts as on its way for so long, in seconds; then others are woken for the slot it left free.
COMING_S = 10.0
#: The rules of sequences begin so; all others are of concurrency limits.
SEQUENCE = "sequence:"


@dataclass(frozen=True, slots=True)
class Gate:
    """At most ``capacity`` attempts of one ``key`` at once, unless an operator changed that of its ``rule``."""

    key: str
    rule: str
    capacity: int


@dataclass(frozen=True, slots=True)
class Entering:
    """A claimed job that asks to enter all of its gates."""

    job: str
    epoch: int
    gates: Sequence[Gate]


class Entry(StrEnum):
    """What becomes of it."""

    ENTERED = "entered"  #: it has its slots until its attempt ends, however that is
    BLOCKED = "blocked"  #: it is not this worker's any more: a slot that is freed wakes it
    CANCELLED = "cancelled"  #: it would be blocked, but was asked to stop


@dataclass(slots=True)
class Room:
    """How many may be in a gate, and the jobs that are."""

    capacity: int
    holders: set[str] = field(default_factory=set)


class Blocked(NamedTuple):
    job: str
    epoch: int
    gate: str
    why: str


def gate_of(line: Line) -> Gate:
    """The gate before a sequence: its row is what orders those who join it."""
    return Gate(line.key, line.rule, 1)


def is_sequence(rule: str) -> bool:
    return rule.startswith(SEQUENCE)


def rooms_of(rows: Iterable[tuple[str, int, str | None]]) -> dict[str, Room]:
    """From (gate, capacity, holder or None)."""
    rooms: dict[str, Room] = {}
    for key, capacity, holder in rows:
        room = rooms.setdefault(key, Room(capacity))
        if holder is not None:
            room.holders.add(holder)
    return rooms


def decide(
    rooms: Mapping[str, Room], asking: Sequence[Entering], stopping: Mapping[str, bool]
) -> tuple[list[Entry], list[Entering], list[Blocked]]:
    """The answers, in the order asked; who enters, all gates or none; and who is blocked, each at its first full gate.

    Parameters:
      stopping: of the jobs that are active in the epoch they name, whether they were asked to stop.  Any other has
        been blocked by this very question before, or belongs to another worker.
    """
    answers: list[Entry] = []
    entered: list[Entering] = []
    blocked: list[Blocked] = []
    for ask in asking:
        full = [g.key for g in ask.gates if ask.job not in (room := rooms[g.key]).holders and _is_full(room)]
        if ask.job not in stopping:
            answers.append(Entry.BLOCKED)
        elif not full:
            answers.append(Entry.ENTERED)
            entered.append(ask)
            for gate in ask.gates:
                rooms[gate.key].holders.add(ask.job)
        elif stopping[ask.job]:
            answers.append(Entry.CANCELLED)
        else:
            answers.append(Entry.BLOCKED)
            capacity = rooms[full[0]].capacity
            blocked.append(Blocked(ask.job, ask.epoch, full[0], f"{full[0]}: {capacity} of {capacity} running"))
    return answers, entered, blocked


def _is_full(room: Room) -> bool:
    return len(room.holders) >= room.capacity

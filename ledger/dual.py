"""Dual writes: what there is to know of them, and which calls are taken; pure."""

import random
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from hashlib import blake2b

from ledger.states import State


class Mode(StrEnum):
    """Who does the work."""

    SYNC = "sync"  #: the synchronous code alone
    DUAL = "dual"  #: the synchronous code, and for a share of the calls a job as well, to be compared
    ASYNC = "async"  #: a job alone; the synchronous code only when no job can be sent


@dataclass(frozen=True, slots=True)
class Standing:
    """How a dual write is set."""

    mode: Mode
    share: float  #: of the calls, from 0 to 1


class How(StrEnum):
    """What came of a comparison."""

    EQUAL = "equal"
    DIFFERENT = "different"
    MISSING = "missing"  #: the job failed, was cancelled or is gone, or has nothing to show for it in time
    ERROR = "errors"  #: it could not be compared


@dataclass(frozen=True, slots=True)
class NewPair:
    """What synchronous code returned, and the job of the same call."""

    id: str
    name: str
    job: str
    result: str


@dataclass(frozen=True, slots=True)
class Pair:
    """One whose job has ended."""

    id: str
    name: str
    job: str
    result: str
    state: State | None  #: None: the job is gone
    age_s: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to be kept of a comparison."""

    pair: Pair
    how: How
    synchronous: str = ""
    asynchronous: str = ""
    why: str = ""


@dataclass(slots=True)
class Tally:
    """What one process has counted of a dual write since it last said so."""

    counts: Counter[str] = field(default_factory=Counter)  #: "sent", and what How says
    trouble: str = ""

    def __bool__(self) -> bool:
        return bool(self.counts)

    def add(self, other: "Tally") -> None:
        self.counts += other.counts
        self.trouble = other.trouble or self.trouble


@dataclass(frozen=True)
class DualWriteView:
    """How a migration from synchronous code goes."""

    name: str
    mode: str  #: sync, dual or async
    share: float  #: of the calls that are also sent in mode dual
    sent: int  #: calls that became jobs besides
    compared: int
    equal: int
    different: int
    missing: int  #: jobs that failed, were cancelled, or have nothing to show in time
    error: int  #: calls that could not be sent or compared
    pending: int  #: sent and not compared yet
    changed_at: datetime
    changed_by: str  #: empty: as the code has it
    trouble: str  #: the last that was missing or an error
    trouble_at: datetime | None


@dataclass(frozen=True)
class DifferenceView:
    """A call of which the two results were not the same."""

    job: str
    at: datetime
    synchronous: str  #: JSON without what looks like a secret, in short
    asynchronous: str


def is_sampled(share: float, key: str | None) -> bool:
    """Whether a call is one of the share.

    The same key always is or is not; and who is in at one share is in at every larger one, of every dual write.
    """
    if key is None:
        return random.random() < share
    return int.from_bytes(blake2b(key.encode("utf-8", "surrogatepass"), digest_size=7).digest()) / 2**56 < share

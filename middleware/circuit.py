"""When the other side counts as down, as an actor says it."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from dramatiq.middleware import Shutdown, TimeLimitExceeded

from errors import Cancelled, Discard, Failure, Snooze
from ledger.breaker import Rule

#: Says nothing of the other side, or only that it asks for patience.
NEVER = (Discard, Failure, Snooze, Cancelled, Shutdown)
LONGEST_S = 600.0


@dataclass(frozen=True, slots=True)
class Circuit:
    """A circuit breaker that actors share by its name, over all workers.

    Parameters:
      name: letters, digits, dots, dashes and underscores.
      failures: the part of the calls that may not fail: from here on it opens; above 0, at most 1.
      of: calls there must have been before their failures mean anything.
      within: seconds, or a ``timedelta``, in which calls count.  It rolls on by tenths.
      open_for: seconds, or a ``timedelta``, until the first probe.  Doubled by every probe that fails.
      longest: the most that it is doubled to; by default ten minutes, or ``open_for`` if that is more.
      probes: how many jobs may try at a time whether the other side is back.
      counts: exception classes that count as failures.  By default every ``Exception``, and the time limit.  No other
        counts, as failure or success; nor do ``Discard``, ``Failure``, ``Snooze``, ``RateLimited``, a cancel and a
        shutdown.

    Raises ``ValueError`` or ``TypeError``, naming what is wrong.
    """

    name: str
    failures: float = 0.5
    of: int = 20
    within: float | timedelta = 60.0
    open_for: float | timedelta = 30.0
    longest: float | timedelta | None = None
    probes: int = 1
    counts: type[BaseException] | Sequence[type[BaseException]] = (Exception, TimeLimitExceeded)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not re.fullmatch(r"[\w.-]{1,100}", self.name):
            raise ValueError(f"circuit: its name has letters, digits, dots, dashes and underscores, got {self.name!r}")
        what = f"circuit {self.name!r}"
        if not _is_number(self.failures) or not 0 < self.failures <= 1:
            raise ValueError(f"{what}: failures is a part of the calls, above 0 and at most 1, got {self.failures!r}")
        for name, count in (("of", self.of), ("probes", self.probes)):
            if isinstance(count, bool) or not isinstance(count, int) or count < 1:
                raise ValueError(f"{what}: {name} is a whole number of at least 1, got {count!r}")
        for name, time in (("within", self.within), ("open_for", self.open_for), ("longest", self.longest)):
            if time is not None and not (_is_number(_seconds(time)) and 0.001 <= _seconds(time) <= 31_536_000):
                raise ValueError(f"{what}: {name} is a number of seconds from 0.001 to a year, got {time!r}")
        if self.longest is not None and _seconds(self.longest) < _seconds(self.open_for):
            raise ValueError(f"{what}: longest ({self.longest}) is below open_for ({self.open_for})")
        kinds = (self.counts,) if isinstance(self.counts, type) else tuple(self.counts)
        if not kinds or not all(isinstance(kind, type) and issubclass(kind, BaseException) for kind in kinds):
            raise TypeError(f"{what}: counts is an exception class, or several, got {self.counts!r}")
        if useless := [kind.__name__ for kind in kinds if issubclass(kind, NEVER)]:
            raise TypeError(f"{what}: {', '.join(useless)} never counts; leave it out of counts")
        object.__setattr__(self, "counts", kinds)  # so that equal circuits are equal

    @property
    def rule(self) -> Rule:
        """The same for the ledger."""
        open_for = _seconds(self.open_for)
        longest = max(LONGEST_S, open_for) if self.longest is None else _seconds(self.longest)
        return Rule(
            self.failures, self.of, _micros(_seconds(self.within)), _micros(open_for), _micros(longest), self.probes
        )

    def fails(self, exception: BaseException) -> bool:
        """Whether an exception says that the other side is down."""
        kinds: tuple[type[BaseException], ...] = self.counts  # type: ignore[assignment]
        return isinstance(exception, kinds) and not isinstance(exception, NEVER)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _seconds(time: float | timedelta) -> float:
    return time.total_seconds() if isinstance(time, timedelta) else time


def _micros(seconds: float) -> int:
    return round(seconds * 1_000_000)

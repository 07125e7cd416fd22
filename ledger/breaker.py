"""Circuit breakers: when one opens and when it closes, pure.

A circuit is closed, and counts the calls of the last while; or open until a moment, and from then on half-open: jobs
may probe, a few at a time, and what becomes of the first decides.  Nothing happens at that moment, so nothing can fail
to happen.  Every change of mind begins a new term; what a call of an earlier one has to report is not heard, so a slow
call that began before the opening neither closes the circuit nor keeps it open.  All moments here are microseconds.
"""

import json
from dataclasses import dataclass, replace

#: Calls are counted in so many parts of the window; what is older leaves it a part at a time.
PARTS = 10

Part = tuple[int, int, int]  #: when it began, calls, failures


@dataclass(frozen=True, slots=True)
class Rule:
    """When a circuit opens, and for how long."""

    failures: float  #: of the calls, above 0 and at most 1
    of: int  #: calls, at least, before their failures mean anything
    within: int
    open_for: int  #: the first time; doubled by every probe that fails
    longest: int
    probes: int  #: at a time


@dataclass(frozen=True, slots=True)
class Breaker:
    """What is kept of a circuit."""

    term: int = 0
    until: int | None = None  #: open, and from then on half-open; None: closed
    length: int = 0  #: of this opening
    openings: int = 0  #: since it was closed
    counted: tuple[Part, ...] = ()
    why: str = ""

    def window(self, now: int, within: int) -> tuple[int, int]:
        """Calls and failures that still count."""
        parts = [part for part in self.counted if now - within < part[0] <= now]
        return sum(calls for _, calls, _ in parts), sum(failures for _, _, failures in parts)


@dataclass(frozen=True, slots=True)
class Calls:
    """What became of calls that began in one term of a circuit; of none, only to hear how it stands."""

    circuit: str
    rule: Rule
    term: int = 0
    calls: int = 0
    failures: int = 0
    error: str = ""  #: of the last failure


@dataclass(frozen=True, slots=True)
class Probe:
    """A claimed job that would try whether the other side is back."""

    circuit: str
    rule: Rule
    job: str
    epoch: int


@dataclass(frozen=True, slots=True)
class Standing:
    """How a circuit stands."""

    term: int = 0
    open_s: float | None = None  #: until it is half-open, 0 when it is; None: closed
    length_s: float = 0.0  #: of this opening
    admitted: bool = False  #: the job that asked may probe

    @classmethod
    def of(cls, breaker: Breaker, now: int, *, admitted: bool = False) -> "Standing":
        if breaker.until is None:
            return cls(breaker.term)
        return cls(breaker.term, max(0, breaker.until - now) / 1e6, breaker.length / 1e6, admitted)


def count(breaker: Breaker, now: int, report: Calls) -> Breaker:
    """The circuit after these calls."""
    if report.term != breaker.term or not report.calls:
        return breaker
    if breaker.until is not None:  # calls of this term were probes
        if report.failures:
            return opened(breaker, report.rule, now, f"a probe failed: {report.error}")
        return closed(breaker, "a probe succeeded")
    rule = report.rule
    began = now - now % max(1, rule.within // PARTS)
    parts = {part[0]: part for part in breaker.counted if now - rule.within < part[0] <= now}
    _, calls, failures = parts.get(began, (began, 0, 0))
    parts[began] = (began, calls + report.calls, failures + report.failures)
    breaker = replace(breaker, counted=tuple(sorted(parts.values())))
    calls, failures = breaker.window(now, rule.within)
    if report.failures and calls >= rule.of and failures >= rule.failures * calls:
        why = f"{failures} of {calls} calls failed within {rule.within / 1e6:g} s, the last with {report.error}"
        return opened(breaker, rule, now, why)
    return breaker


def opened(breaker: Breaker, rule: Rule, now: int, why: str) -> Breaker:
    """The circuit, opened (again)."""
    length = min(rule.longest, rule.open_for * 2 ** min(breaker.openings, 40))
    return Breaker(breaker.term + 1, now + length, length, breaker.openings + 1, why=why)


def held(breaker: Breaker, now: int, length: int, why: str) -> Breaker:
    """The circuit, opened by a person for so long."""
    return Breaker(breaker.term + 1, now + length, length, why=why)


def closed(breaker: Breaker, why: str) -> Breaker:
    """The circuit, closed; what it counted before is forgotten."""
    return Breaker(breaker.term + 1, why=why)


def parts_of(text: str) -> tuple[Part, ...]:
    """The parts of a window as they are kept."""
    return tuple((began, calls, failures) for began, calls, failures in json.loads(text or "[]"))


def text_of(parts: tuple[Part, ...]) -> str:
    return json.dumps(parts, separators=(",", ":")) if parts else ""

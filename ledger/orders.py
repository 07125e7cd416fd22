"""What operators ask of running processes, and what workers say of themselves."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Wish(StrEnum):
    """What an operator wants of a worker."""

    RUN = "run"
    QUIET = "quiet"  #: take no new jobs, finish what it has, stay
    STOP = "stop"  #: the same, and end


class Mode(StrEnum):
    """What a worker does."""

    RUNNING = "running"
    QUIET = "quiet"  #: it starts nothing; what it runs, ends
    STOPPING = "stopping"


#: What a worker does that was asked for that.
DOES: Mapping[Wish, Mode] = {Wish.RUN: Mode.RUNNING, Wish.QUIET: Mode.QUIET, Wish.STOP: Mode.STOPPING}


class Ends(StrEnum):
    """How a worker process can be stopped."""

    ALONE = "alone"  #: `hareline worker` runs it, and starts no other in its place
    TOGETHER = "together"  #: Dramatiq's command line runs it, which ends all its workers when one ends
    NOT = "not"  #: a program of its own runs it, and decides when it ends


class Knob(StrEnum):
    """What may be changed of a queue while jobs run."""

    CONCURRENCY = "concurrency"  #: jobs at once in one process
    RATE = "rate"  #: starts in a time, over all workers
    MAX_RUNNING = "max_running"  #: jobs at once, over all workers
    MAX_WAITING = "max_waiting"  #: jobs that have not ended, beyond which a send is refused


#: Under which names the ledger keeps them, beside the limits of actors: each is followed by the queue's name.
_RULES: Mapping[Knob, str] = {
    Knob.CONCURRENCY: "slots:queue:",
    Knob.RATE: "queue:",
    Knob.MAX_RUNNING: "running:queue:",
    Knob.MAX_WAITING: "waiting:queue:",
}


def rule_of(knob: Knob, queue: str) -> str:
    return _RULES[knob] + queue


def knob_of(rule: str) -> tuple[Knob, str] | None:
    """The knob and the queue whose rule that is; None for a rule of something else."""
    for knob, prefix in _RULES.items():
        if rule.startswith(prefix):
            return knob, rule.removeprefix(prefix)
    return None


@dataclass(frozen=True, slots=True)
class Changed:
    """What an operator has set."""

    count: float
    per_s: float  #: of a rate; else 0
    burst: int


@dataclass(frozen=True, slots=True)
class Orders:
    """What a process is to go by, as the ledger has it now."""

    wish: Wish | None = None  #: None: nobody has asked this worker for anything
    queues: Mapping[Knob, Mapping[str, Changed]] = field(default_factory=lambda: {knob: {} for knob in Knob})
    draining: Mapping[str, str] = field(default_factory=dict)  #: queues that take no new jobs, and who said so


def orders_of(rows: list[tuple[str, str, str, float, float, int]]) -> Orders:
    """From (kind, name, text, count, per_s, burst), as both databases answer."""
    wish: Wish | None = None
    queues: dict[Knob, dict[str, Changed]] = {knob: {} for knob in Knob}
    draining: dict[str, str] = {}
    for kind, name, text, count, per_s, burst in rows:
        if kind == "wish":
            wish = Wish(text)
        elif kind == "draining":
            draining[name] = text
        elif (found := knob_of(name)) is not None:
            queues[found[0]][found[1]] = Changed(count, per_s, burst)
    return Orders(wish, queues, draining)


@dataclass(frozen=True, slots=True)
class WorkerReport:
    """What a worker says of itself."""

    mode: Mode
    ends: Ends
    master: int | None  #: pid of the process that started it with others
    busy: int  #: threads that run a job
    rss: int | None  #: bytes of memory; None where the system does not tell
    slots: Mapping[str, int]  #: by queue

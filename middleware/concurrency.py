"""How many jobs may run at once: over all workers, per queue, per actor, per value of an argument."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from dramatiq import Actor, Broker, Middleware
from dramatiq.broker import MessageProxy
from dramatiq.middleware import SkipMessage

from errors import InvalidActor
from ledger.gates import Entering, Entry, Gate
from ledger.orders import Knob, rule_of
from ledger.recorder import Recorder
from ledger.states import Outcome
from middleware.arguments import Argument, demand_path, demand_whole, finder, listed, shown
from middleware.attempt import JobMessage

#: The capacity of a gate that only an operator has closed, once the operator's rule is gone.
UNLIMITED = 1_000_000


@dataclass(frozen=True, slots=True)
class Concurrency:
    """At most ``count`` jobs at once over all workers.

    Parameters:
      key: name of a parameter of the actor: each of its values has a limit of its own.  ``"event.customer"`` reads a
        field, or a key, of the argument.

    Raises ``ValueError``, naming what is wrong.
    """

    count: int
    key: str | None = None

    def __post_init__(self) -> None:
        demand_whole("Concurrency", "count", self.count)
        if self.key is not None:
            demand_path("Concurrency", self.key)

    @classmethod
    def parse(cls, text: str) -> "Concurrency":
        """``"3"``.  Raises ``ValueError``."""
        if not text.strip().isdecimal() or int(text) < 1:
            raise ValueError(f"so many at once: a whole number of at least 1; got {text!r}")
        return cls(int(text))

    def __str__(self) -> str:
        return f"{self.count} at once"


class ConcurrencyLimits(Middleware):
    """Lets no more jobs run at once than the limits of their actor and queue allow.

    The slot is the attempt's: however it ends, the slot goes to the next, and that of a worker that died within its
    lease.  A job that finds no slot is blocked: delayed, without spending an attempt, until the one that frees a slot
    wakes it, by priority and then by age.  Of several limits a job holds all or none.

    Actor options:
      concurrency: a ``Concurrency``, or several that all hold.

    Fails closed: while the database is away, nothing that is limited starts.

    Parameters:
      queues: how many of a queue may run, by name.
    """

    fails_closed = True

    def __init__(self, recorder: Recorder, queues: Mapping[str, int]) -> None:
        self.recorder = recorder
        self.queues = queues
        self._added: Mapping[str, Gate] = {}
        self._actors: dict[str, list[tuple[Gate, Argument | None]]] = {}

    @property
    def actor_options(self) -> set[str]:
        return {"concurrency"}

    @property
    def rules(self) -> dict[str, Concurrency]:
        """The limits in the code, by the names under which ``hareline limits`` changes them."""
        queues = (_gate(name, count) for name, count in self.queues.items())
        gates = [*queues, *(gate for some in self._actors.values() for gate, _ in some)]
        return {gate.rule: Concurrency(gate.capacity) for gate in gates}

    def learn(self, changed: Collection[str]) -> None:
        """Queues that operators have limited; how many may run of them is the ledger's to know."""
        self._added = {name: _gate(name, UNLIMITED) for name in changed if name not in self.queues}

    def before_declare_actor(self, broker: Broker, actor: Actor[Any, Any]) -> None:
        gates: dict[str, tuple[Gate, Argument | None]] = {}
        for limit in listed(actor, "concurrency", Concurrency):
            rule = f"running:actor:{actor.actor_name}" + (f":{limit.key}" if limit.key else "")
            if rule in gates:
                raise InvalidActor(
                    f"actor {actor.actor_name!r}: two limits for {limit.key or 'all its jobs'}; leave one"
                )
            find = finder(actor, "concurrency", limit.key) if limit.key else None
            gates[rule] = Gate(rule, rule, limit.count), find
        if gates:
            self._actors[actor.actor_name] = list(gates.values())

    def before_process_message(self, broker: Broker, message: MessageProxy) -> None:
        if not isinstance(message, JobMessage) or not (gates := self._gates(message)):
            return
        message.entered = True  # perhaps: the answer may be lost
        entry = self.recorder.enter(Entering(message.claim.id, message.claim.epoch, gates))
        message.entered = entry is Entry.ENTERED
        if entry is Entry.BLOCKED:
            message.parted = True
            raise SkipMessage(f"{', '.join(gate.key for gate in gates)}: no slot is free")
        if entry is Entry.CANCELLED:
            message.cancelled = True
            message.end(Outcome.CANCELLED)
            raise SkipMessage("it was asked to stop before it began")

    def _gates(self, message: JobMessage) -> list[Gate]:
        name = message.queue_name
        queue = _gate(name, self.queues[name]) if name in self.queues else self._added.get(name)
        gates = [] if queue is None else [queue]
        for gate, find in self._actors.get(message.actor_name, ()):
            value = "" if find is None else f"={shown(find(message.args, message.kwargs))}"
            gates.append(Gate(gate.key + value, gate.rule, gate.capacity))
        return gates


def _gate(queue: str, capacity: int) -> Gate:
    rule = rule_of(Knob.MAX_RUNNING, queue)
    return Gate(rule, rule, capacity)

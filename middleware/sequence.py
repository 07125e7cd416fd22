"""Jobs that run one after the other, in the order in which they were sent."""

from dataclasses import dataclass
from typing import Any, Literal

from dramatiq import Actor, Broker, Middleware
from dramatiq.message import Message

from errors import InvalidActor, Refusal
from ledger.gates import SEQUENCE
from ledger.records import Key, Line, Mode
from middleware.arguments import Argument, demand_path, finder, shown


@dataclass(frozen=True, slots=True)
class Sequence:
    """Jobs that agree in one argument run one at a time, in the order in which they were sent.

    Parameters:
      key: name of a parameter of the actor, with a dotted path into dicts and models (``"order.account"``).
      name: actors that give the same one share their sequences; by default each has its own.
      on_failure: what a dead letter does to those behind it: "continue": nothing; "hold": it keeps them back until it
        is retried and ends, or is removed.

    Raises ``ValueError``, naming what is wrong.
    """

    key: str
    name: str | None = None
    on_failure: Literal["continue", "hold"] = "continue"

    def __post_init__(self) -> None:
        demand_path("Sequence", self.key)
        if self.name is not None and not (isinstance(self.name, str) and self.name.strip()):
            raise ValueError(f"Sequence: name is a text that its actors share, got {self.name!r}")
        if self.on_failure not in ("continue", "hold"):
            raise ValueError(f"Sequence: on_failure is 'continue' or 'hold', got {self.on_failure!r}")


class Sequences(Middleware):
    """The option ``sequence`` of actors: the name of a parameter, or a :class:`Sequence`.

    The ledger gives a job its place with the enqueue, in its transaction; only the first of a line has a ticket, so
    nothing that happens to messages can change the order.  Fails closed: a job stays in line whatever becomes of
    workers, and its successors wait for it.
    """

    def __init__(self) -> None:
        self._actors: dict[str, tuple[Sequence, Argument]] = {}

    @property
    def actor_options(self) -> set[str]:
        return {"sequence"}

    def before_declare_actor(self, broker: Broker, actor: Actor[Any, Any]) -> None:
        if (given := actor.options.get("sequence")) is None:
            return
        try:
            sequence = Sequence(given) if isinstance(given, str) else given
        except ValueError as error:
            raise InvalidActor(f"actor {actor.actor_name!r}: {error}") from None
        if not isinstance(sequence, Sequence):
            raise InvalidActor(
                f"actor {actor.actor_name!r}: sequence is the name of a parameter, or a Sequence, got {given!r}"
            )
        unique = actor.options.get("unique")
        if isinstance(unique, dict) and unique.get("mode") == Mode.REPLACE:
            raise InvalidActor(f"actor {actor.actor_name!r}: {_NO_REPLACE}")
        self._actors[actor.actor_name] = sequence, finder(actor, "sequence", sequence.key)

    def line_of(self, message: Message[Any], key: Key | None) -> Line | None:
        """The line a message's job is to stand in, if any; ``key`` is its unique one.  Raises ``Refusal``."""
        found = self._actors.get(message.actor_name)
        if found is None:
            return None
        if key is not None and key.mode is Mode.REPLACE:
            raise Refusal(f"{message.actor_name}: {_NO_REPLACE}")
        sequence, find = found
        rule = f"{SEQUENCE}{sequence.name or message.actor_name}"
        value = shown(find(message.args, message.kwargs))
        return Line(f"{rule}={value}", rule, sequence.on_failure == "hold")


_NO_REPLACE = (
    "a job in a sequence keeps its place, so it cannot be replaced; use another mode of unique, or no sequence"
)

"""Who may send to an actor."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from dramatiq import Actor, Broker, Middleware
from dramatiq.broker import MessageProxy
from dramatiq.message import Message

from errors import Forbidden, InvalidActor, LedgerUnavailable
from ledger.sealed import NESTED
from ledger.states import Outcome, Reason
from middleware.aliases import Aliases
from middleware.attempt import JobMessage

#: The producer of what a job's end sends to a restricted actor: who sent that job was asked for it then.
FOLLOWS = "(follows)"
#: The place of a foreign message's producer; that of others is host:pid.
RABBITMQ = "rabbitmq"
#: Message options that name an actor to be sent to.
_NAMING = ("on_success", "on_failure", "on_retry_exhausted")


class Permissions(Middleware):
    """Lets only certain producers send to an actor.

    A producer is the name its process has (``HARELINE_PRODUCER``, or its user at RabbitMQ), or is given with
    ``broker.sent_by``; of a foreign message the user that RabbitMQ has verified.  It is asked where a message enters:
    ``send()`` raises ``Forbidden``, a foreign message is buried; so are those it makes follow it (a pipeline,
    callbacks).  And again before the body runs, of such an actor and of any whose message makes one follow: by the
    producer in the ledger's row, and with what that row says if RabbitMQ brought something else.  What is not allowed
    then is a dead letter at once, reason ``forbidden``.

    Who can write to the ledger is trusted to have told the truth.

    Actor option:
      allowed_producers: their names.  Without it, everybody.

    Fails closed: a producer without a name may send to no such actor, and nothing of it starts while the ledger cannot
    be asked.
    """

    def __init__(self, aliases: Aliases, recorded: Callable[[str], tuple[str, bytes] | None]) -> None:
        self.aliases = aliases
        self.recorded = recorded
        self.allowed: dict[str, frozenset[str]] = {}

    @property
    def actor_options(self) -> set[str]:
        return {"allowed_producers"}

    def before_declare_actor(self, broker: Broker, actor: Actor[Any, Any]) -> None:
        given = actor.options.get("allowed_producers")
        if given is None:
            return
        names = list(given) if isinstance(given, (set, frozenset, list, tuple)) else []
        if not names or not all(isinstance(name, str) and name and name != FOLLOWS for name in names):
            raise InvalidActor(
                f"actor {actor.actor_name!r}: allowed_producers is a set of names, such as {{'billing-api'}}, got "
                f"{given!r}; leave it out to allow everybody"
            )
        self.allowed[actor.actor_name] = frozenset(names)

    def demand(self, message: Message[Any], producer: str) -> None:
        """Raise ``Forbidden`` unless this producer may send the message and all that it makes follow."""
        for name in self._restricted(message):
            allowed = self.allowed[self.aliases.of(name)]
            if producer not in allowed:
                who = f"producer {producer!r}" if producer else "a producer without a name"
                raise Forbidden(
                    f"{name}: {who} may not send to it, only {', '.join(sorted(allowed))}; add it to "
                    "allowed_producers, or set HARELINE_PRODUCER, of a foreign message user_id"
                )

    def _restricted(self, message: Message[Any] | JobMessage) -> Iterator[str]:
        """Those of the actors it reaches that not everybody may send to."""
        if self.allowed:
            yield from (name for name in _reached(message) if self.aliases.of(name) in self.allowed)

    def before_process_message(self, broker: Broker, message: MessageProxy) -> None:
        if not isinstance(message, JobMessage):
            return
        try:
            if any(self._restricted(message)):
                self._check(message)
        except LedgerUnavailable:
            raise
        except Exception as error:  # any other would be swallowed, and the body run
            message.end(Outcome.FAILED, reason=Reason.FORBIDDEN)
            if isinstance(error, Forbidden):
                raise
            raise Forbidden(f"{message.actor_name}: who sent it cannot be told ({type(error).__name__})") from error

    def _check(self, message: JobMessage) -> None:
        recorded_as = self.recorded(message.claim.id)
        if recorded_as is None:
            raise Forbidden("the ledger does not know who sent it")
        producer, body = recorded_as
        if body != message.body:
            recorded: Message[Any] = Message.decode(body)
            actor = self.aliases.of(recorded.actor_name)
            if actor != message.actor_name:
                raise Forbidden(
                    f"its message is for {message.actor_name}, but the ledger has recorded {actor}: somebody forged it"
                )
            options = {**recorded.options, **{k: v for k, v in message.options.items() if k == "retries"}}
            options = {k: v for k, v in options.items() if k not in ("eta", "throws")}
            message.become(
                dataclasses.replace(recorded, queue_name=message.queue_name, actor_name=actor, options=options), body
            )
        name, _, place = producer.rpartition("@")
        if name != FOLLOWS or place == RABBITMQ:
            self.demand(_alone(message), name)


def _alone(message: JobMessage) -> Message[Any]:
    """The message without what follows it: that was asked for when it entered."""
    return Message(message.queue_name, message.actor_name, (), {}, {}, message.message_id)


def _reached(message: Message[Any] | JobMessage) -> Iterator[str]:
    """The actors a message is for, itself or by what it makes follow."""
    yield message.actor_name
    yield from (name for option in _NAMING if isinstance(name := message.options.get(option), str))
    for option in NESTED:
        value = message.options.get(option) or ()
        for nested in [value] if isinstance(value, Mapping) else value:
            yield from _reached(Message(**nested))

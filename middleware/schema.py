"""What an actor is sent must fit its signature."""

from collections.abc import Collection
from typing import Any

from dramatiq import Actor, Broker, Middleware, Worker
from dramatiq.broker import MessageProxy
from dramatiq.message import Message
from pydantic_core import PydanticSerializationError, to_jsonable_python

from errors import InvalidActor, InvalidPayload, Refusal
from ledger.sealed import NESTED
from ledger.states import Outcome, Reason
from middleware.attempt import JobMessage
from middleware.returns import Returns
from middleware.secret import SEALING, marked
from middleware.signature import Signature


class Schemas(Middleware):
    """Checks arguments against the actor's annotations, and gives the body the types they name.

    Twice: before a message is recorded (``InvalidPayload``, nothing is recorded), and before the body runs, for it may
    come from an older or a foreign producer.  What does not fit then is a dead letter at once, reason
    ``invalid_payload``.  Other middleware sees the arguments as the body does; the message in the ledger, and in
    callbacks, stays as it was written.

    Actor option:
      validate: False leaves the arguments alone, and writes results as they are.  On by default.

    A worker does not start with an actor whose types pydantic cannot validate.
    """

    def __init__(self) -> None:
        self._signatures: dict[str, Signature] = {}
        self._returns: dict[str, Returns] = {}
        self._stored: list[Returns] = []

    @property
    def actor_options(self) -> set[str]:
        return {"validate"}

    def before_declare_actor(self, broker: Broker, actor: Actor[Any, Any]) -> None:
        self.declare(actor)

    def declare(self, actor: Actor[Any, Any]) -> None:
        """Read the signature of an actor.  Idempotent.  Raises ``InvalidActor``."""
        if actor.actor_name in self._signatures:
            return
        validate = actor.options.get("validate", True)
        if not isinstance(validate, bool):
            raise InvalidActor(f"actor {actor.actor_name!r}: validate is True or False, got {validate!r}")
        if validate:
            hidden = actor.options.get("sensitive", False) is True
            self._signatures[actor.actor_name] = Signature(actor.actor_name, actor.fn, hidden=hidden)
            self._returns[actor.actor_name] = Returns(actor.actor_name, actor.fn)
            if actor.options.get("store_results"):
                self._stored.append(self._returns[actor.actor_name])

    def before_worker_boot(self, broker: Broker, worker: Worker) -> None:
        for signature in self._signatures.values():
            signature.secrets  # noqa: B018  building its validator is the test
        for returns in self._stored:
            returns.adapter  # noqa: B018  the same

    def result(self, actor_name: str, result: Any) -> bytes | None:
        """The JSON of what an actor returned; None when its annotation says nothing.  Raises ``InvalidResult``."""
        returns = self._returns.get(actor_name)
        return None if returns is None else returns.written(result)

    def secrets(self, actor: str) -> Collection[str]:
        """The parameters of an actor in whose types a ``Secret`` is mentioned.  Raises ``InvalidActor``."""
        signature = self._signatures.get(actor)
        return signature.secrets if signature is not None else ()

    def written(self, message: Message[Any], *, refuse: bool) -> Message[Any]:
        """The message with its arguments as JSON has them; secrets in them are marked, to be sealed.

        Raises ``InvalidPayload`` when they do not fit, unless ``refuse`` is false: then the worker finds out.
        """
        nested = {name: message.options[name] for name in NESTED if name in message.options}
        if nested:  # those are checked when they are sent: a pipeline's next step lacks an argument until then
            try:
                plain = to_jsonable_python(nested, round_trip=True, context=SEALING, fallback=marked)
                message = message.copy(options=plain)
            except PydanticSerializationError as error:
                raise Refusal(f"{message.actor_name}: what follows it cannot be written as JSON ({error})") from error
        signature = self._signatures.get(message.actor_name)
        if signature is None:
            return message
        args, kwargs = signature.written(message.args, message.kwargs, refuse=refuse)
        if args is message.args and kwargs is message.kwargs:  # both: there is one empty tuple
            return message
        return message.copy(args=args, kwargs=kwargs)

    def before_process_message(self, broker: Broker, message: MessageProxy) -> None:
        if not isinstance(message, JobMessage) or (signature := self._signatures.get(message.actor_name)) is None:
            return
        try:
            message.args, message.kwargs = signature.typed(message.args, message.kwargs)
        except InvalidPayload:
            message.end(Outcome.FAILED, reason=Reason.INVALID_PAYLOAD)
            raise

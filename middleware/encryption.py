"""Arguments that are nowhere in clear but in the body of their actor."""

import copy
import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from typing import Any, Literal

from dramatiq import Actor, Broker, Middleware, Worker
from dramatiq.broker import MessageProxy
from dramatiq.errors import DecodeError
from dramatiq.message import Message, get_encoder

from errors import InvalidActor, LedgerUnavailable, Refusal, Undecipherable
from ledger.sealed import NESTED, SEALED, Path, bound, change
from ledger.sealing import Bound, KeyRing, Seal
from ledger.states import Outcome, Reason
from middleware.aliases import Aliases
from middleware.attempt import JobMessage
from middleware.discretion import keep_quiet, keep_worker_quiet
from middleware.schema import Schemas
from middleware.secret import MARK, unmarked

Mode = Literal["all", "fields"]


class Encryption(Middleware):
    """Seals the arguments of sensitive jobs before they are recorded, and opens them for the body.

    In RabbitMQ and in the ledger they are envelopes (``ledger/sealing.py``), each bound to its message's id, its actor
    and its place among the arguments.  What such a job leaves is sealed too: results, the texts of errors, checkpoints,
    notes of progress, and the arguments of what its callbacks and pipelines send.

    Actor option:
      sensitive: True seals all arguments.  Off by default; single ones are sealed by annotating them ``Secret[…]``.

    Fails closed: without a key nothing is sent.  What cannot be opened is a dead letter at once, reason
    ``undecipherable``; arguments that came in clear, from a foreign producer, are run.

    Parameters:
      recorded: the body of a job's message as the ledger has it, which may be under a newer key than the one that
        travelled.
    """

    def __init__(
        self, ring: KeyRing, schemas: Schemas, aliases: Aliases, recorded: Callable[[str], tuple[str, bytes] | None]
    ) -> None:
        self.ring = ring
        self.schemas = schemas
        self.aliases = aliases
        self.recorded = recorded
        self._sensitive: set[str] = set()
        self._modes: dict[str, Mode | None] = {}

    @property
    def actor_options(self) -> set[str]:
        return {"sensitive"}

    def before_declare_actor(self, broker: Broker, actor: Actor[Any, Any]) -> None:
        sensitive = actor.options.get("sensitive", False)
        if not isinstance(sensitive, bool):
            raise InvalidActor(f"actor {actor.actor_name!r}: sensitive is True or False, got {sensitive!r}")
        if sensitive:
            self._sensitive.add(actor.actor_name)
        self.schemas.declare(actor)  # whose turn comes later
        self.demand_no_digest(actor, actor.options, InvalidActor)

    def demand_no_digest(
        self, actor: Actor[Any, Any], options: Mapping[str, Any], kind: type[InvalidActor | Refusal]
    ) -> None:
        """Raise ``kind`` when options, of the actor or of a message for it, make a key of what is secret."""
        for option, path in _keyed(options):
            secret = self._secrets(actor)
            if actor.actor_name in self._sensitive or path in secret or (path is None and secret):
                raise kind(
                    f"actor {actor.actor_name!r}: {option} would keep a digest of what is secret, and equal ones could "
                    "be told; name an argument that is not, or annotate the secret ones with Secret[…] and leave out "
                    "sensitive"
                )

    def _secrets(self, actor: Actor[Any, Any]) -> Collection[str]:
        try:
            return self.schemas.secrets(actor.actor_name)
        except InvalidActor:  # a type that is not complete yet; who sends it, or boots, finds out
            return ()

    def after_declare_actor(self, broker: Broker, actor: Actor[Any, Any]) -> None:
        keep_quiet(actor, always=actor.actor_name in self._sensitive)
        self._modes.pop(actor.actor_name, None)  # somebody may have sent to it by its name

    def before_worker_boot(self, broker: Broker, worker: Worker) -> None:
        keep_worker_quiet()

    # -- sending
    def opened(self, message: Message[Any]) -> tuple[Message[Any], bool]:
        """A message that was sealed before it was sent, as the next step of a pipeline is; and whether all of it was.

        What has been appended to its arguments since stays behind them.  Raises ``Refusal``.
        """
        options = {name: value for name, value in message.options.items() if name != SEALED}
        try:
            args, kwargs = self._open(message, message.options[SEALED])
        except Undecipherable as error:
            raise Refusal(f"{message.actor_name}: {error}") from error
        opened = dataclasses.replace(message, args=args, kwargs=kwargs, options=options)
        return opened, message.options[SEALED] == "all"

    def sealed(self, message: Message[Any], *, whole: bool = False) -> Message[Any]:
        """The message as it may be recorded.  Raises ``Refusal`` when there is no key.

        Parameters:
          whole: all of its arguments, whatever its actor says.
        """
        options: dict[str, Any] = {}
        nested = message.options and [name for name in NESTED if name in message.options]
        for name in nested:
            value = message.options[name]
            options[name] = [self._nested(x) for x in value] if isinstance(value, list) else self._nested(value)
        mode = "all" if whole else self.mode(message.actor_name)
        if mode is None:
            return message.copy(options=options) if nested else message
        try:
            if mode == "all":
                text = get_encoder().encode({"args": unmarked(message.args), "kwargs": unmarked(message.kwargs)})
                args: tuple[Any, ...] = (self.ring.seal(text, bound(message.actor_name, message.message_id, [])),)
                return message.copy(args=args, kwargs={}, options={**options, SEALED: "all"})
            paths: list[Path] = []
            args = tuple(self._walk(message, item, ["args", i], paths) for i, item in enumerate(message.args))
            kwargs = {name: self._walk(message, item, ["kwargs", name], paths) for name, item in message.kwargs.items()}
        except TypeError as error:
            raise Refusal(f"{message.actor_name}: its arguments cannot be written as JSON ({error})") from error
        except Refusal as error:
            raise Refusal(f"{message.actor_name}: {error}") from error
        return message.copy(args=args, kwargs=kwargs, options={**options, SEALED: paths} if paths else options)

    def mode(self, actor: str) -> Mode | None:
        """How much of an actor's arguments is sealed."""
        try:
            return self._modes[actor]
        except KeyError:
            fields: Mode | None = "fields" if self.schemas.secrets(actor) else None
            return self._modes.setdefault(actor, "all" if actor in self._sensitive else fields)

    def _nested(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """A message within the options of another.  It lacks an argument until it is sent, so all of it is sealed."""
        message: Message[Any] = Message(**fields)
        if SEALED not in message.options:
            secret = self.mode(self.aliases.of(message.actor_name)) is not None
            message = self.sealed(message, whole=secret)
            if not secret and MARK in repr((message.args, message.kwargs)):
                raise Refusal(f"{message.actor_name}: it is sent a Secret, and its parameter is not annotated as one")
        return {**message.asdict(), "args": list(message.args)}

    def _walk(self, message: Message[Any], value: Any, path: Path, paths: list[Path]) -> Any:
        """Plain JSON with an envelope in the place of everything that is marked, whose path is noted."""
        if isinstance(value, dict):
            if MARK in value:
                paths.append(path)
                text = get_encoder().encode({"value": unmarked(value[MARK])})
                return self.ring.seal(text, bound(message.actor_name, message.message_id, path))
            return {name: self._walk(message, item, [*path, name], paths) for name, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self._walk(message, item, [*path, i], paths) for i, item in enumerate(value)]
        return value

    # -- running
    def before_process_message(self, broker: Broker, message: MessageProxy) -> None:
        if not isinstance(message, JobMessage):
            return
        sealed = message.options.get(SEALED)
        if sealed is None and self.mode(message.actor_name) is None:
            return
        try:
            if not self.ring.ids:
                raise Undecipherable("HARELINE_KEYS has no key here; add those of its producer, then retry the job")
            if sealed is not None:
                message.args, message.kwargs = self._open_recorded(message, sealed)
        except LedgerUnavailable:
            raise
        except Exception as error:  # any other would be swallowed, and the body run
            message.end(Outcome.FAILED, reason=Reason.UNDECIPHERABLE)
            if isinstance(error, Undecipherable):
                raise
            raise Undecipherable(f"what it has encrypted cannot be read ({type(error).__name__})") from None
        message.seal = Seal(self.ring, message.claim.id)

    def _open_recorded(self, message: JobMessage, sealed: object) -> tuple[tuple[Any, ...], dict[str, Any]]:
        try:
            return self._open(message, sealed)
        except Undecipherable:
            recorded = self.recorded(message.claim.id)
            if recorded is None or recorded[1] == message.body:
                raise
            try:  # the keys were rotated while it was on its way
                newer: Message[Any] = Message.decode(recorded[1])
                return self._open(newer, newer.options.get(SEALED))
            except DecodeError as error:
                raise Undecipherable("neither its message nor the ledger's copy of it can be opened") from error

    def _open(self, message: Message[Any] | JobMessage, sealed: object) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Its arguments in clear.  Raises ``Undecipherable``."""
        arguments: Any = copy.deepcopy({"args": list(message.args), "kwargs": dict(message.kwargs)})
        if sealed != "all":
            change(arguments, sealed, lambda envelope, path: self._plain(message, envelope, path)["value"])
            return tuple(arguments["args"]), arguments["kwargs"]
        change(arguments, sealed, lambda envelope, path: self._plain(message, envelope, path))
        first, *appended = arguments["args"]
        return (*first["args"], *appended), {**first["kwargs"], **arguments["kwargs"]}

    def _plain(self, message: Message[Any] | JobMessage, envelope: str, path: Path) -> dict[str, Any]:
        """What one envelope holds; its actor may have been renamed since."""
        former = [alias for alias, actor in self.aliases.actors.items() if actor == message.actor_name]
        for name in former:
            with suppress(Undecipherable):
                return self._decoded(envelope, bound(name, message.message_id, path))
        return self._decoded(envelope, bound(message.actor_name, message.message_id, path))

    def _decoded(self, envelope: str, to: Bound) -> dict[str, Any]:
        found: dict[str, Any] = get_encoder().decode(self.ring.open(envelope, to))
        return found


def _keyed(options: Mapping[str, Any]) -> Iterator[tuple[str, str | None]]:
    """The options that make keys of an actor's arguments: (option, path), or None for all arguments."""
    unique = options.get("unique")
    if isinstance(unique, Mapping):
        yield from [("unique", None)] if unique.get("by") is None else [("unique", path) for path in unique["by"]]
    for option in ("rate_limit", "concurrency", "sequence"):
        given = options.get(option)
        for limit in given if isinstance(given, (list, tuple)) else [given]:
            key = limit if isinstance(limit, str) else getattr(limit, "key", None)
            if key:
                yield option, key

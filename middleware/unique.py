"""One job of a kind: which arguments make two sends the same, and what becomes of the second."""

import dataclasses
import hashlib
import inspect
import json
import math
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from functools import cache
from typing import Any, TypeVar

from dramatiq import Actor, Broker, Middleware
from dramatiq.message import Message

from errors import InvalidActor, Refusal
from ledger.records import LONGEST_DELAY_MS, Enqueued, Key, Mode, NewJob
from ledger.states import LIVE, State
from middleware.arguments import demand_parameter, step
from middleware.handles import Jobs, Sent
from middleware.secret import MARK

R = TypeVar("R")

_ALL = ("delayed", "waiting", "active")


class Unique(dict[str, Any]):
    """Of the jobs of an actor that agree in some arguments there is to be one.

    A dict, so that in a message's options it is plain JSON, in a pipeline's next step too.

    Parameters:
      by: names of parameters of the actor, with dotted paths into dicts and models (``"order.customer"``); None for
        all.  Compared as canonical JSON, so positional or by keyword, and the order of a dict's keys, are the same.
      within: seconds or ``timedelta``: the key is held at least so long, whatever becomes of the job.  None: as long
        as the job is in one of ``states``.
      states: of "delayed", "waiting" and "active", those in which the job holds its key; only for "reject".
      mode: what a send does while the key is held:
        "reject": nothing is recorded; it returns a :class:`Duplicate`, the handle of the job that is there.
        "replace": the job that is there, if it is delayed or waiting, becomes this message: its arguments, options and
          message id, due ``delay`` from now (debounce).  One that has started is not held: a new job is recorded.
        "throttle": as reject, but ``within``, which it needs, counts alone.

    Raises ``ValueError`` or ``TypeError`` for values that mean nothing.
    """

    def __init__(
        self,
        *,
        by: Iterable[str] | None = None,
        within: float | timedelta | None = None,
        states: Iterable[str] = _ALL,
        mode: str = "reject",
    ) -> None:
        if isinstance(by, str):
            raise TypeError(f"unique: by is a list of parameters, got {by!r}; write by=[{by!r}]")
        names = None if by is None else [str(name) for name in by]
        if names == []:
            raise ValueError(
                "unique: by is empty, so all jobs of the actor would be one; name parameters, or leave it out"
            )
        if mode not in list(Mode):
            raise ValueError(f"unique: mode is {', '.join(Mode)}, got {mode!r}")
        held = [str(state) for state in states]
        if not held or not set(held) <= set(_ALL):
            raise ValueError(f"unique: states are of {', '.join(_ALL)}, got {held}; to hold it longer, set within")
        if mode != Mode.REJECT and set(held) != set(_ALL):
            raise ValueError(f"unique: states are for mode reject; leave them out with {mode}")
        if isinstance(within, timedelta):
            within = within.total_seconds()
        if within is not None and (
            isinstance(within, bool) or not math.isfinite(within) or not 1 <= within * 1000 <= LONGEST_DELAY_MS
        ):
            raise ValueError(f"unique: within is a number of seconds above 0, or a timedelta, got {within!r}")
        if (mode == Mode.THROTTLE and within is None) or (mode == Mode.REPLACE and within is not None):
            raise ValueError(
                "unique: mode throttle needs within, the time in which there may be one job"
                if mode == Mode.THROTTLE
                else "unique: mode replace takes no within: a job is replaced until it starts"
            )
        super().__init__(by=names, within=within, states=held, mode=str(mode))


class Duplicate(Sent[R]):
    """What ``send()`` returns when nothing was recorded: a handle of the job that is there, with its message id."""


class Uniqueness(Middleware):
    """The option ``unique`` of actors and messages: a :class:`Unique`, or None for a message that is to be recorded.

    What it says of the actor's parameters is checked when the actor is declared; the ledger decides with the
    enqueue, in its transaction.  Fails closed: a send whose arguments have no key is refused.
    """

    @property
    def actor_options(self) -> set[str]:
        return {"unique"}

    def before_declare_actor(self, broker: Broker, actor: Actor[Any, Any]) -> None:
        if (unique := actor.options.get("unique")) is None:
            return
        try:
            _demand_parameters(actor, _parsed(unique))
        except (TypeError, ValueError) as error:
            raise InvalidActor(f"actor {actor.actor_name!r}: {error}") from error


def key_of(actor: Actor[Any, Any] | None, message: Message[Any]) -> Key | None:
    """The key a message's job needs, if any.  Raises ``Refusal`` when its options or arguments make none."""
    if actor is None:
        return None
    own = message.options.get("unique", actor)
    unique = actor.options.get("unique") if own is actor else own
    if unique is None:
        return None
    try:
        if own is not actor:
            unique = _parsed(unique)
            _demand_parameters(actor, unique)
        if "group_completion_uuid" in message.options:
            raise ValueError(
                "a group with callbacks waits for every one of its jobs, and a unique one may not be recorded; "
                "send it with unique=None"
            )
        values = _values(actor, message, unique["by"])
        text = json.dumps(json.loads(_json([message.actor_name, values])), sort_keys=True, separators=(",", ":"))
        if MARK in text:
            raise ValueError("unique: a digest of what is secret would let equal ones be told; name other arguments by")
    except (TypeError, ValueError) as error:
        raise Refusal(f"{message.actor_name}: {error}") from error
    within = unique["within"]
    return Key(
        hashlib.blake2b(text.encode(), digest_size=16).hexdigest(),
        Mode(unique["mode"]),
        LIVE if len(unique["states"]) == len(_ALL) else frozenset(map(State, unique["states"])),
        None if within is None else round(within * 1000),
    )


def handle(message: Message[R], job: NewJob, answer: Enqueued, jobs: Jobs) -> Sent[R]:
    """What the sender of a message is given: the message as a handle of its job, or a :class:`Duplicate`."""
    if answer.duplicate and answer.id != job.id:
        return Duplicate.of(Message(**{**message.asdict(), "message_id": answer.message_id}), answer.id, jobs)
    return Sent.of(message, answer.id, jobs)


def _parsed(unique: object) -> Unique:
    if isinstance(unique, Unique):
        return unique
    if not isinstance(unique, Mapping):
        raise TypeError(f"unique is a Unique(…) or None, got {unique!r}")
    return Unique(**unique)


def _demand_parameters(actor: Actor[Any, Any], unique: Unique) -> None:
    parameters = _signature(actor.fn).parameters
    if any(x.kind is x.VAR_KEYWORD for x in parameters.values()):
        return
    for path in unique["by"] or ():
        try:
            demand_parameter(path, parameters)
        except ValueError as error:
            raise ValueError(f"unique by {path!r}: {error}") from None


@cache
def _signature(fn: Callable[..., Any]) -> inspect.Signature:
    return inspect.signature(fn)


def _values(actor: Actor[Any, Any], message: Message[Any], by: list[str] | None) -> dict[str, Any]:
    """The arguments that make the key, by path, as the actor would get them."""
    signature = _signature(actor.fn)
    bound = signature.bind(*message.args, **message.kwargs)
    bound.apply_defaults()
    arguments = dict(bound.arguments)
    for name, parameter in signature.parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            arguments |= arguments.pop(name)
    return arguments if by is None else {path: _at(arguments, path) for path in by}


def _at(arguments: Mapping[str, Any], path: str) -> Any:
    value: Any = arguments
    for part in path.split("."):
        try:
            value = step(value, part)
        except (KeyError, AttributeError) as error:
            raise ValueError(
                f"unique by {path!r}: its arguments have no {part!r} there; send it, or change by"
            ) from error
    return value


def _json(value: object) -> str:
    try:
        return json.dumps(value, default=_plain)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"unique: its arguments cannot be compared as JSON ({error}); name plain ones with by"
        ) from error


def _plain(value: Any) -> Any:
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    raise TypeError(f"{type(value).__name__} is no JSON")

"""From synchronous code to a job, without a leap: ``dual_write(fn, actor)``."""

import copy
import functools
import inspect
import math
import operator
import re
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, ParamSpec, TypeVar, overload

from dramatiq import Actor
from pydantic_core import to_json

from errors import InvalidDualWrite, nearest
from ledger.dual import Mode, Standing, is_sampled
from middleware.arguments import demand_parameter, shown, step
from middleware.comparing import Call, Comparer

P = ParamSpec("P")
R = TypeVar("R")

#: What the actor is sent for a call: its arguments by name.
Arguments = Callable[..., Mapping[str, Any]]


@overload
def dual_write(
    sync_fn: Callable[P, Coroutine[Any, Any, R]],
    actor: Actor[..., Any],
    share: float = ...,
    *,
    name: str | None = ...,
    mode: Literal["sync", "dual", "async"] = ...,
    key: str | Callable[P, object] | None = ...,
    arguments: Arguments | None = ...,
    outcome: Callable[..., Any] | None = ...,
    same: Callable[[Any, Any], bool] = ...,
    patience: float | timedelta = ...,
) -> Callable[P, Coroutine[Any, Any, R | None]]: ...
@overload
def dual_write(
    sync_fn: Callable[P, R],
    actor: Actor[..., Any],
    share: float = ...,
    *,
    name: str | None = ...,
    mode: Literal["sync", "dual", "async"] = ...,
    key: str | Callable[P, object] | None = ...,
    arguments: Arguments | None = ...,
    outcome: Callable[..., Any] | None = ...,
    same: Callable[[Any, Any], bool] = ...,
    patience: float | timedelta = ...,
) -> Callable[P, R | None]: ...
def dual_write(
    sync_fn: Callable[..., Any],
    actor: Actor[..., Any],
    share: float = 0.05,
    *,
    name: str | None = None,
    mode: Literal["sync", "dual", "async"] = "dual",
    key: str | Callable[..., object] | None = None,
    arguments: Arguments | None = None,
    outcome: Callable[..., Any] | None = None,
    same: Callable[[Any, Any], bool] = operator.eq,
    patience: float | timedelta = 60.0,
) -> Callable[..., Any]:
    """The function to be called in place of ``sync_fn``; a coroutine function if that is one.

    In mode ``dual`` it returns and raises what ``sync_fn`` does, and for a share of the calls that returned, a job is
    sent as well; when that has ended, the two results are compared.  A thread of the process sends and compares: the
    caller waits for neither, and nothing that goes wrong there reaches it, it is counted.  In mode ``async`` the job is
    sent before it returns None, and ``sync_fn`` is called only when it cannot be; in mode ``sync`` no job is sent.

    Mode and share are in the ledger, ``hareline migration`` changes them, and every process has heard of it within
    about a second.  Both sides may do their work for one call: they must be idempotent together, as jobs are.

    Parameters:
      share: of the calls that are sent in mode ``dual``, from 0 to 1.  Like ``mode`` it counts until an operator says
        otherwise.
      name: of the kind of event, by which it is shown and changed; the actor's, if none is given.
      key: an argument (``event.customer``), or a function of the arguments: calls with the same value are all in the
        share or all out of it.
      arguments: what the actor is sent, by name, as a function of the arguments; the same as ``sync_fn``, if not given.
      outcome: what came of the job, as a function of what the actor was sent, as JSON has it; None: it is not there
        yet.  The job's result, if not given; then the actor needs ``store_results=True``.
      same: whether the two are the same, given what ``sync_fn`` returned and what came of the job, both as JSON has
        them.  It is called by a thread.
      patience: seconds, or a ``timedelta``, for which an outcome of None is asked for again.

    Raises ``InvalidDualWrite``, naming what is wrong.  Does no I/O before the first call.
    """
    if not callable(sync_fn) or inspect.isgeneratorfunction(sync_fn) or inspect.isasyncgenfunction(sync_fn):
        raise InvalidDualWrite(f"dual_write: sync_fn is a function or a coroutine function, got {sync_fn!r}")
    if not isinstance(actor, Actor):
        raise InvalidDualWrite(f"dual_write: actor is an actor, got {actor!r}; decorate it with @dramatiq.actor")
    known = name if name is not None else actor.actor_name
    what = f"dual_write {known!r}"
    if not isinstance(known, str) or not re.fullmatch(r"[\w.-]{1,100}", known):
        raise InvalidDualWrite(
            f"{what}: its name has letters, digits, dots, dashes and underscores; give another name="
        )
    if mode not in list(Mode):
        raise InvalidDualWrite(f"{what}: mode {mode!r} is none; {nearest(str(mode), Mode)}")
    for option, function in (("arguments", arguments), ("outcome", outcome), ("same", same)):
        if not callable(function) and (function is not None or option == "same"):
            raise InvalidDualWrite(f"{what}: {option} is a function, got {function!r}")
    if outcome is None and not actor.options.get("store_results"):
        raise InvalidDualWrite(
            f"{what}: actor {actor.actor_name!r} keeps no result to compare; declare it with store_results=True, or "
            "give outcome=, a function that looks up what came of the job"
        )
    patience_s = patience.total_seconds() if isinstance(patience, timedelta) else patience
    if not _is_number(patience_s) or patience_s < 0:
        raise InvalidDualWrite(f"{what}: patience is a number of seconds from 0 on, got {patience!r}")
    writer = Writer(
        known, actor, Standing(Mode(mode), share_of(what, share)), outcome, same, patience_s,
        _key_of(what, sync_fn, key), arguments,
    )  # fmt: skip
    writer.comparer()

    if inspect.iscoroutinefunction(sync_fn):

        @functools.wraps(sync_fn)
        async def write_async(*args: Any, **kwargs: Any) -> Any:
            mode = writer.standing().mode
            if mode is Mode.ASYNC and await writer.send_async(args, kwargs):
                return None
            result = await sync_fn(*args, **kwargs)
            if mode is Mode.DUAL:
                writer.hand_over(result, args, kwargs)
            return result

        return write_async

    @functools.wraps(sync_fn)
    def write(*args: Any, **kwargs: Any) -> Any:
        mode = writer.standing().mode
        if mode is Mode.ASYNC and writer.send(args, kwargs):
            return None
        result = sync_fn(*args, **kwargs)
        if mode is Mode.DUAL:
            writer.hand_over(result, args, kwargs)
        return result

    return write


@dataclass(frozen=True, eq=False)
class Writer:
    """One dual write of the code.  Thread-safe."""

    name: str
    actor: Actor[..., Any]
    declared: Standing
    outcome: Callable[..., Any] | None
    same: Callable[[Any, Any], bool]
    patience_s: float
    key: Callable[..., object] | None
    arguments: Arguments | None

    def comparer(self) -> Comparer:
        """That of the actor's broker, which knows this one."""
        found = getattr(self.actor.broker, "dual_writes", None)
        if not isinstance(found, Comparer):
            raise InvalidDualWrite(
                f"dual_write {self.name!r}: actor {self.actor.actor_name!r} is on a broker without a ledger; make its "
                "broker with broker.build()"
            )
        found.declare(self)
        return found

    def standing(self) -> Standing:
        return self.comparer().standing(self)

    def hand_over(self, result: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Have a call whose result is this one sent and compared, if it is one of the share.  Raises nothing."""
        comparer = self.comparer()
        try:
            key = None if self.key is None else self.key(*args, **kwargs)
            if not is_sampled(comparer.standing(self).share, None if key is None else shown(key)):
                return
            # Copied: what the caller does to its arguments from here on is nothing the job should see.
            sent_args, sent_kwargs = copy.deepcopy(self._sent(args, kwargs))
            told: dict[str, Any] = {"result": result}
            if self.outcome is not None:
                told |= {"args": sent_args, "kwargs": sent_kwargs}
            comparer.hand_over(Call(self, sent_args, sent_kwargs, to_json(told).decode()))
        except Exception as error:
            comparer.failed(self, error)

    def send(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
        """Send the job of a call; false when it cannot be."""
        comparer = self.comparer()
        if comparer.is_away:
            return comparer.failed(self, None)
        try:
            sent_args, sent_kwargs = self._sent(args, kwargs)
            self.actor.send_with_options(args=sent_args, kwargs=sent_kwargs)
        except Exception as error:
            return comparer.failed(self, error)
        return comparer.sent(self)

    async def send_async(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
        """The same, and the event loop goes on meanwhile."""
        comparer = self.comparer()
        if comparer.is_away:
            return comparer.failed(self, None)
        try:
            sent_args, sent_kwargs = self._sent(args, kwargs)
            await self.actor.send_with_options_async(args=sent_args, kwargs=sent_kwargs)  # type: ignore[attr-defined]
        except Exception as error:
            return comparer.failed(self, error)
        return comparer.sent(self)

    def _sent(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if self.arguments is None:
            return tuple(args), dict(kwargs)
        return (), dict(self.arguments(*args, **kwargs))


def share_of(what: str, share: float) -> float:
    """The share.  Raises ``InvalidDualWrite`` unless it is one."""
    if not _is_number(share) or not 0 <= share <= 1:
        raise InvalidDualWrite(f"{what}: share is a part of the calls, from 0 to 1, got {share!r}")
    return float(share)


def _key_of(what: str, fn: Callable[..., Any], key: str | Callable[..., object] | None) -> Callable[..., object] | None:
    if key is None or callable(key):
        return key
    if not isinstance(key, str):
        raise InvalidDualWrite(f"{what}: key is the path of an argument (event.customer) or a function, got {key!r}")
    signature = inspect.signature(fn)
    try:
        demand_parameter(key, signature.parameters)
    except ValueError as error:
        raise InvalidDualWrite(f"{what}: key {key!r}: {error}") from None
    name, *path = key.split(".")

    def find(*args: Any, **kwargs: Any) -> object:
        given = signature.bind(*args, **kwargs)
        given.apply_defaults()
        try:
            return functools.reduce(step, path, given.arguments[name])
        except (KeyError, AttributeError):
            return None

    return find


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)

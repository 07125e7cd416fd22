"""How fast jobs may start: over all workers, per queue, per actor, per value of an argument."""

import functools
import hashlib
import inspect
import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dramatiq import Actor, Broker, Middleware
from dramatiq.broker import MessageProxy
from dramatiq.middleware import SkipMessage

from errors import InvalidActor, LedgerUnavailable, RateLimited
from ledger.gcra import Pace, Share, Wanted
from ledger.recorder import SOON_S, Recorder
from ledger.states import Outcome
from middleware.arguments import demand_parameter, step
from middleware.attempt import JobMessage
from middleware.rates import Rate

#: A job that waits for its slot in the ledger comes back by so much sooner: on its way it must not miss it.
EARLY_S = 0.08
#: Longest value of a key that is shown as it is.
LONGEST_SHOWN = 80

Argument = Callable[[Sequence[Any], Mapping[str, Any]], Any]


class Limits(Middleware):
    """Lets jobs start no faster than the rates of their actor and queue allow.

    A job over the limit reserves its start.  Is that at most a tenth of a second away, it waits for it; else it goes
    back to ``delayed`` until then, which spends no attempt.  So a backlog is gone through once, and starts of one
    limit are in the order in which their jobs were first claimed, not by priority.

    Actor options:
      rate_limit: a ``Rate``, or several that all hold.
      cost: how many starts one job counts for; 1 by default.  Of a message too.

    Fails closed: while the database is away, nothing that is limited starts.

    Parameters:
      queues: rates of queues, by name.
    """

    def __init__(self, recorder: Recorder, queues: Mapping[str, Rate]) -> None:
        self.recorder = recorder
        self.queues = queues
        self._actors: dict[str, list[tuple[str, Rate, Argument | None]]] = {}

    @property
    def actor_options(self) -> set[str]:
        return {"rate_limit", "cost"}

    @property
    def rules(self) -> dict[str, Rate]:
        """The rates in the code, by the names under which ``hareline limits`` changes them."""
        actors = {rule: rate for limits in self._actors.values() for rule, rate, _ in limits}
        return {f"queue:{name}": rate for name, rate in self.queues.items()} | actors

    def before_declare_actor(self, broker: Broker, actor: Actor[Any, Any]) -> None:
        given = actor.options.get("rate_limit")
        rates = given if isinstance(given, (list, tuple)) else [given] if given is not None else []
        limits: list[tuple[str, Rate, Argument | None]] = []
        for rate in rates:
            if not isinstance(rate, Rate):
                raise InvalidActor(f"actor {actor.actor_name!r}: rate_limit is a Rate or a list of them, got {rate!r}")
            rule = f"actor:{actor.actor_name}" + (f":{rate.key}" if rate.key else "")
            if any(rule == other for other, _, _ in limits):
                raise InvalidActor(f"actor {actor.actor_name!r}: two rates for {rate.key or 'all its jobs'}; leave one")
            limits.append((rule, rate, _argument(actor, rate.key) if rate.key else None))
        if "cost" in actor.options and not _is_cost(actor.options["cost"]):
            raise InvalidActor(
                f"actor {actor.actor_name!r}: cost is a whole number of at least 1, got {actor.options['cost']!r}"
            )
        if limits:
            self._actors[actor.actor_name] = limits

    def before_process_message(self, broker: Broker, message: MessageProxy) -> None:
        if not isinstance(message, JobMessage) or not (shares := self._shares(broker, message)):
            return
        try:
            wait_s = self.recorder.reserve(Wanted(message.claim.id, message.claim.epoch, shares))
        except LedgerUnavailable as error:
            message.end(Outcome.INTERRUPTED)
            raise SkipMessage(str(error)) from error
        if wait_s <= SOON_S:
            time.sleep(wait_s)
            return
        message.end(Outcome.PARKED, delay_ms=int((wait_s - EARLY_S) * 1000))
        raise SkipMessage(f"{', '.join(share.key for share in shares)}: the next free start is in {wait_s:.3f} s")

    def after_process_message(
        self, broker: Broker, message: MessageProxy, *, result: Any = None, exception: BaseException | None = None
    ) -> None:
        if not isinstance(exception, RateLimited) or not isinstance(message, JobMessage):
            return
        if shares := self._shares(broker, message):
            self.recorder.slow(shares, exception.delay_ms / 1000)

    def _shares(self, broker: Broker, message: JobMessage) -> list[Share]:
        limits = self._actors.get(message.actor_name, ())
        queue = self.queues.get(message.queue_name)
        if not limits and queue is None:
            return []
        cost = message.options.get("cost", broker.get_actor(message.actor_name).options.get("cost", 1))
        cost = cost if _is_cost(cost) else 1
        shares = []
        if queue is not None:
            rule = f"queue:{message.queue_name}"
            shares.append(Share(rule, rule, _pace(queue), cost))
        for rule, rate, argument in limits:
            key = rule if argument is None else f"{rule}={_shown(argument(message.args, message.kwargs))}"
            shares.append(Share(key, rule, _pace(rate), cost))
        return shares


def _pace(rate: Rate) -> Pace:
    return Pace.of(rate.count, rate.per_s, rate.burst)


def _is_cost(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _argument(actor: Actor[Any, Any], key: str) -> Argument:
    """Finds the value of a key among the arguments of a message."""
    name, *path = key.split(".")
    parameters = inspect.signature(inspect.unwrap(actor.fn)).parameters
    try:
        demand_parameter(key, parameters)
    except ValueError as error:
        raise InvalidActor(f"actor {actor.actor_name!r}: rate_limit by {key!r}: {error}") from None
    place = list(parameters).index(name)
    default = parameters[name].default

    def find(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        value = args[place] if place < len(args) else kwargs.get(name, default)
        try:
            return functools.reduce(step, path, value)
        except (KeyError, AttributeError):  # those without one share a limit
            return None

    return find


def _shown(value: Any) -> str:
    """The same text for the same value, in every process."""
    text = json.dumps(value, sort_keys=True, default=str)
    return text if len(text) <= LONGEST_SHOWN else hashlib.sha256(text.encode()).hexdigest()

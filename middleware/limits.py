"""How fast jobs may start: over all workers, per queue, per actor, per value of an argument."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from dramatiq import Actor, Broker, Middleware
from dramatiq.broker import MessageProxy
from dramatiq.middleware import SkipMessage

from errors import InvalidActor, RateLimited
from ledger.gcra import Pace, Share, Wanted
from ledger.orders import Changed
from ledger.recorder import SOON_S, Recorder
from ledger.states import Outcome
from middleware.arguments import Argument, finder, listed, shown
from middleware.attempt import JobMessage
from middleware.rates import Rate

#: A job that waits for its slot in the ledger comes back by so much sooner: on its way it must not miss it.
EARLY_S = 0.08


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

    fails_closed = True

    def __init__(self, recorder: Recorder, queues: Mapping[str, Rate]) -> None:
        self.recorder = recorder
        self.queues = queues
        self.on_wait: Callable[[str, float], None] | None = None  #: told a queue, and how long a job of it has to wait
        self._added: Mapping[str, Rate] = {}
        self._actors: dict[str, list[tuple[str, Rate, Argument | None]]] = {}

    @property
    def actor_options(self) -> set[str]:
        return {"rate_limit", "cost"}

    @property
    def rules(self) -> dict[str, Rate]:
        """The rates in the code, by the names under which ``hareline limits`` changes them."""
        actors = {rule: rate for limits in self._actors.values() for rule, rate, _ in limits}
        return {f"queue:{name}": rate for name, rate in self.queues.items()} | actors

    def learn(self, changed: Mapping[str, Changed]) -> None:
        """Rates that operators have set, by queue; where the code has one too, the ledger sees to that."""
        self._added = {
            name: Rate(x.count, x.per_s or 1.0, burst=x.burst) for name, x in changed.items() if name not in self.queues
        }

    def before_declare_actor(self, broker: Broker, actor: Actor[Any, Any]) -> None:
        limits: list[tuple[str, Rate, Argument | None]] = []
        for rate in listed(actor, "rate_limit", Rate):
            rule = f"actor:{actor.actor_name}" + (f":{rate.key}" if rate.key else "")
            if any(rule == other for other, _, _ in limits):
                raise InvalidActor(f"actor {actor.actor_name!r}: two rates for {rate.key or 'all its jobs'}; leave one")
            limits.append((rule, rate, finder(actor, "rate_limit", rate.key) if rate.key else None))
        if "cost" in actor.options and not _is_cost(actor.options["cost"]):
            raise InvalidActor(
                f"actor {actor.actor_name!r}: cost is a whole number of at least 1, got {actor.options['cost']!r}"
            )
        if limits:
            self._actors[actor.actor_name] = limits

    def before_process_message(self, broker: Broker, message: MessageProxy) -> None:
        if not isinstance(message, JobMessage) or not (shares := self._shares(broker, message)):
            return
        wait_s = self.recorder.reserve(Wanted(message.claim.id, message.claim.epoch, shares))
        if self.on_wait is not None:
            self.on_wait(message.queue_name, wait_s)
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
        queue = self.queues.get(message.queue_name) or self._added.get(message.queue_name)
        if not limits and queue is None:
            return []
        cost = message.options.get("cost", broker.get_actor(message.actor_name).options.get("cost", 1))
        cost = cost if _is_cost(cost) else 1
        shares = []
        if queue is not None:
            rule = f"queue:{message.queue_name}"
            shares.append(Share(rule, rule, _pace(queue), cost))
        for rule, rate, argument in limits:
            key = rule if argument is None else f"{rule}={shown(argument(message.args, message.kwargs))}"
            shares.append(Share(key, rule, _pace(rate), cost))
        return shares


def _pace(rate: Rate) -> Pace:
    return Pace.of(rate.count, rate.per_s, rate.burst)


def _is_cost(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1

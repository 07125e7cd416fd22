"""What the code declares, by name: queues, limits, circuits, actors.  What a person names is looked up here.

A name that nothing has is refused (``NotFound``): a misspelt pause or limit would be silently without effect.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dramatiq.message import Message

from errors import BadInput, NotFound, nearest
from ledger.scope import EVERYTHING, Scope
from ledger.views import QueueView
from middleware.circuits import Circuits
from middleware.concurrency import Concurrency, ConcurrencyLimits
from middleware.limits import Limits
from middleware.rates import Rate

if TYPE_CHECKING:
    from broker.broker import Broker
    from ledger.queries import Queries
    from middleware.circuit import Circuit


def queues(broker: "Broker", asked: "Queries") -> list[QueueView]:
    """Those the ledger knows and those that actors are on, by name."""
    found = {queue.name: queue for queue in asked.queues()}
    for name in filter(asked.scope.admits, broker.get_declared_queues()):
        found.setdefault(name, QueueView(name, False, None, None, {}, None))
    return [found[name] for name in sorted(found)]


def queue(broker: "Broker", asked: "Queries", name: str) -> str:
    """The name, if it is one of them, or of one whose jobs are all in the history.  Raises ``NotFound``."""
    known = {*asked.queue_names(), *filter(asked.scope.admits, broker.get_declared_queues())}
    if name not in known:
        raise NotFound(f"there is no queue {name!r}; {nearest(name, known)}")
    return name


def rules(broker: "Broker") -> dict[str, Rate | Concurrency]:
    """The limits, by the name of their rule."""
    known: dict[str, Rate | Concurrency] = {}
    for middleware in broker.middleware:
        if isinstance(middleware, Limits | ConcurrencyLimits):
            known |= middleware.rules
    return known


def rule(broker: "Broker", name: str) -> Rate | Concurrency:
    """What the code says of one.  Raises ``NotFound``."""
    if name not in (known := rules(broker)):
        raise NotFound(f"no limit is named {name!r}; {nearest(name, known)}")
    return known[name]


def changed(known: Rate | Concurrency, text: str) -> Rate | Concurrency:
    """What a limit of that sort is to be: ``10/s``, or ``3`` at once.  Raises ``BadInput``."""
    try:
        return Rate.parse(text) if isinstance(known, Rate) else Concurrency.parse(text)
    except ValueError as error:
        raise BadInput(str(error)) from None


def circuits(broker: "Broker") -> "Mapping[str, tuple[Circuit, list[str]]]":
    """The circuits, by name, and which actors use them."""
    return next(middleware.used for middleware in broker.middleware if isinstance(middleware, Circuits))


def demand_circuit(broker: "Broker", name: str) -> None:
    """Raise ``NotFound`` unless an actor uses it."""
    if name not in (known := circuits(broker)):
        raise NotFound(f"no circuit is named {name!r}; {nearest(name, known)}")


def message(
    broker: "Broker",
    actor: str,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    *,
    queue: str | None = None,
    scope: Scope = EVERYTHING,
    **options: Any,
) -> Message[Any]:
    """A message for an actor that is given by its name, or an alias.  Raises ``NotFound``, ``Denied``.

    Parameters:
      queue: another than the actor's own.
      scope: the queues it may go to, and of whose actors it may be.
    """
    name = broker.aliases.of(actor)
    known = [one for one, it in broker.actors.items() if scope.admits(it.queue_name)]
    if queue is not None:
        scope.demand(queue)
    if name not in known:
        raise NotFound(f"no actor is named {actor!r}; {nearest(actor, known)}")
    made = broker.actors[name].message_with_options(args=tuple(args), kwargs=dict(kwargs), **options)
    if queue is None:
        return made
    if queue not in broker.get_declared_queues():
        there = filter(scope.admits, broker.get_declared_queues())
        raise NotFound(f"no actor is on queue {queue!r}; {nearest(queue, there)}")
    return made.copy(queue_name=queue)

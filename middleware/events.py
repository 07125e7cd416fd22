"""Listening to what happens to jobs.

from middleware.events import JobEvent, on
"""

from collections.abc import Callable
from typing import Any, TypeVar

import dramatiq
from dramatiq import Actor

from errors import InvalidListener
from ledger.events import HEARD, JobEvent, chosen
from middleware.listeners import Listeners, name_of

__all__ = ["JobEvent", "on"]

_ELSEWHERE = "no worker has it in hand; follow the feed (`hareline events follow`)"

Function = TypeVar("Function", bound=Callable[[JobEvent], object])


def on(
    *names: str,
    actor: str | Actor[Any, Any] | None = None,
    queue: str | None = None,
    broker: dramatiq.Broker | None = None,
) -> Callable[[Function], Function]:
    """Call the function with a :class:`~ledger.events.JobEvent` for each of these events.

        @on("dead", queue="billing")
        def page(event: JobEvent) -> None: ...

    It runs in the process where it happened, after it was committed, on a thread of the listeners' own, one event
    after the other: it can neither change nor slow a job.  What it raises is logged and counted (`hareline events ls`).
    It may miss events: of a process that is killed, and when it is so slow that ``MOST`` wait.  Whoever must miss none
    follows the feed.

    Parameters:
      names: "started", "completed", "retrying", "snoozed", "parked", "interrupted", "failed", "expired",
        "quarantined", "cancelled"; "dead" and "finished" for all that end so.
      actor, queue: only of these.
      broker: the global one when None.

    Raises ``UnknownEvent``, ``InvalidListener``; for an actor or a queue that does not exist, when the worker starts.
    """
    if len(names) == 1 and callable(names[0]):
        raise InvalidListener(f'listener {name_of(names[0])}: say to what it listens: @on("completed")')
    happened = chosen(names, HEARD, elsewhere=_ELSEWHERE)
    found = broker or dramatiq.get_broker()
    listeners = next((x for x in found.middleware if isinstance(x, Listeners)), None)
    if listeners is None:
        raise InvalidListener("on: this broker has no listeners; make it with broker.build()")

    def declare(function: Function) -> Function:
        listeners.add(
            function, happened, actor=actor if isinstance(actor, str | None) else actor.actor_name, queue=queue
        )
        return function

    return declare

"""Jobs that exist if and only if the job that sent them completed."""

import functools
import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from dramatiq import Actor, Broker, Middleware
from dramatiq.middleware import CurrentMessage, MiddlewareError

from errors import Failure
from ledger.records import NewJob
from middleware.attempt import JobMessage


class AtomicSends(Middleware):
    """Holds back what an actor sends in its body, to commit it with the job's completion.

    However often an attempt fails, or its worker dies, each of its sends becomes a job exactly once; and one
    commit records them all.  Until then they are in no ledger: waiting for their results in the body waits in vain.

    Actor option:
      atomic_sends: True holds back what is sent from the thread that runs the body.  Off by default.  Refused
        for async actors, whose body runs in another thread.

    Called directly, an actor sends as if the option were off.  An attempt that fails, or returns
    ``Failure``, sends nothing.
    """

    def __init__(self, holding: Callable[[list[NewJob]], AbstractContextManager[None]]) -> None:
        self.holding = holding

    @property
    def actor_options(self) -> set[str]:
        return {"atomic_sends"}

    def before_declare_actor(self, broker: Broker, actor: Actor[Any, Any]) -> None:
        if actor.options.get("atomic_sends") and inspect.iscoroutinefunction(inspect.unwrap(actor.fn)):
            raise MiddlewareError(f"{actor.actor_name} is async; atomic_sends is for actors that are not")

    def after_declare_actor(self, broker: Broker, actor: Actor[Any, Any]) -> None:
        if actor.options.get("atomic_sends"):
            actor.fn = self._held(actor.fn)

    def _held(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(fn)
        def body(*args: Any, **kwargs: Any) -> Any:
            message: object = CurrentMessage.get_current_message()
            if not isinstance(message, JobMessage):
                return fn(*args, **kwargs)
            sent: list[NewJob] = []
            with self.holding(sent):
                result = fn(*args, **kwargs)
            if not isinstance(result, Failure):
                message.follow_ups += sent
            return result

        return body

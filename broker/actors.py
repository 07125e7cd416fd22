"""Dramatiq's actors, and how asyncio code sends to them."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar, cast, overload

import dramatiq

from middleware.handles import Sent

if TYPE_CHECKING:
    from broker.broker import Broker

P = ParamSpec("P")
R = TypeVar("R")


class Actor(dramatiq.Actor[P, R]):
    """An actor of a Hareline broker; one declared by ``@dramatiq.actor`` becomes it.

    ``send_async`` and ``send_with_options_async`` are ``send`` and ``send_with_options`` for asyncio code: the job is
    committed when they return, the event loop goes on meanwhile, and what is sent at once shares commits.  A send
    that is cancelled while it waits is recorded or not, as if its caller had died.
    """

    if TYPE_CHECKING:

        def send(self, *args: P.args, **kwargs: P.kwargs) -> Sent[R]: ...

        def send_with_options(
            self,
            *,
            args: tuple[Any, ...] = (),
            kwargs: dict[str, Any] | None = None,
            delay: timedelta | int | None = None,
            **options: Any,
        ) -> Sent[R]: ...

    async def send_async(self, *args: P.args, **kwargs: P.kwargs) -> Sent[R]:
        """Returns and raises what ``send()`` does."""
        return await self.send_with_options_async(args=args, kwargs=kwargs)

    async def send_with_options_async(
        self,
        *,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        delay: timedelta | int | None = None,
        **options: Any,
    ) -> Sent[R]:
        """Returns and raises what ``send_with_options()`` does."""
        if isinstance(delay, timedelta):
            delay = int(delay.total_seconds() * 1000)
        message = self.message_with_options(args=args, kwargs=kwargs, **options)
        return await cast("Broker", self.broker).enqueue_async(message, delay=delay)


class Decorator(Protocol):
    @overload
    def __call__(self, fn: Callable[P, Awaitable[R]], /) -> Actor[P, R]: ...
    @overload
    def __call__(self, fn: Callable[P, R], /) -> Actor[P, R]: ...


@overload
def actor(fn: Callable[P, Awaitable[R]], /) -> Actor[P, R]: ...
@overload
def actor(fn: Callable[P, R], /) -> Actor[P, R]: ...
@overload
def actor(
    *,
    queue_name: str = "default",
    priority: int = 0,
    actor_name: str | None = None,
    broker: dramatiq.Broker | None = None,
    **options: Any,
) -> Decorator: ...
def actor(fn: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """``@dramatiq.actor``, for code that is checked: it says that what it makes is an :class:`Actor`."""
    return dramatiq.actor(fn, actor_class=Actor, **options)  # type: ignore[call-overload]

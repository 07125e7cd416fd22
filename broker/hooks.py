"""Dramatiq's broker, calling only the hooks that do something, and telling who must know when one of them fails."""

from collections.abc import Callable
from typing import Any

import dramatiq
from dramatiq.middleware import AgeLimit, Middleware, MiddlewareError, ShutdownNotifications, TimeLimit
from dramatiq.middleware import Retries as StockRetries

from errors import Failure, WrongMiddleware
from middleware.attempt import Capture, JobMessage

#: Stock middleware that would lose jobs here, and what does its work instead.
REPLACED: dict[type[Middleware], str] = {
    StockRetries: "middleware.retries.Retries, with the same options",
    AgeLimit: "middleware.deadlines.Deadlines (option max_age)",
    TimeLimit: "middleware.deadlines.Deadlines (option time_limit)",
    ShutdownNotifications: "middleware.deadlines.Deadlines (option notify_shutdown)",
}


class Hooks(dramatiq.Broker):
    """A broker and its middleware."""

    def __init__(self) -> None:
        self._hooks: dict[str, list[Callable[..., None]]] = {}
        super().__init__(middleware=[])
        self.capture = Capture()

    def add_middleware(
        self,
        middleware: Middleware,
        *,
        before: type[Middleware] | None = None,
        after: type[Middleware] | None = None,
    ) -> None:
        if instead := REPLACED.get(type(middleware)):
            raise WrongMiddleware(
                f"Dramatiq's {type(middleware).__name__} would lose jobs here; leave it out, {instead} does its work."
            )
        super().add_middleware(middleware, before=before, after=after)
        self._hooks = {}

    def _hook(self, name: str) -> list[Callable[..., None]]:
        """The hooks that do something, in list order.  Most do not, and there are fourteen calls for every job."""
        hooks = self._hooks.get(name)
        if hooks is None:
            nothing = getattr(Middleware, name)
            hooks = [
                getattr(middleware, name)
                for middleware in self.middleware
                if getattr(type(middleware), name, nothing) is not nothing or name in vars(middleware)
            ]
            self._hooks[name] = hooks
        return hooks

    def emit_before(self, signal: str, *args: Any, **kwargs: Any) -> None:
        for hook in self._hook("before_" + signal):
            try:
                hook(self, *args, **kwargs)
            except MiddlewareError:
                raise
            except Exception as error:
                if signal == "worker_boot":
                    raise  # a worker without its place in the ledger must not start
                self.logger.critical("Unexpected failure in %s.", hook, exc_info=True)
                if signal == "process_message" and isinstance(args[0], JobMessage):
                    args[0].stop_unless_open(getattr(hook, "__self__", None), error)

    def emit_after(self, signal: str, *args: Any, **kwargs: Any) -> None:
        hooks = self._hook("after_" + signal)
        if not hooks:
            return
        message = args[0] if args and isinstance(args[0], JobMessage) else None
        try:
            if message is not None:
                self.capture.hooks = True
                if isinstance(failure := kwargs.get("result"), Failure):
                    message.stuff_exception(failure)
                    kwargs = {"exception": failure}
            for hook in reversed(hooks):
                if message is not None:  # once its finish is handed over, nothing can be added to it
                    self.capture.into = None if message.submitted else message.follow_ups
                    self.capture.secret = message.seal is not None
                try:
                    hook(self, *args, **kwargs)
                except Exception as error:
                    if self.capture.secret:  # its text may quote what is
                        self.logger.critical("Unexpected failure in %s: %s.", hook, type(error).__name__)
                    else:
                        self.logger.critical("Unexpected failure in %s.", hook, exc_info=True)
                    if message is not None:
                        message.troubles.append(f"{type(hook.__self__).__name__}: {error}")
        finally:
            if message is not None:
                self.capture.into, self.capture.hooks, self.capture.secret = None, False, False

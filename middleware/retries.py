"""Decides whether a failed attempt is tried again, and when."""

import random
from collections.abc import Callable
from typing import Any, Literal

from dramatiq import Broker, Middleware
from dramatiq.broker import MessageProxy
from dramatiq.errors import Retry
from dramatiq.logging import get_logger
from dramatiq.middleware import Shutdown

from errors import Cancelled, Discard, Failure, Snooze
from ledger.states import Outcome, Reason
from middleware.attempt import JobMessage

Backoff = Literal["exponential", "fixed"] | Callable[[int, BaseException], int]

#: Options Dramatiq's own Retries knows keep their names and units (milliseconds).
OPTIONS = {
    "max_retries",
    "min_backoff",
    "max_backoff",
    "retry_when",
    "throws",
    "on_retry_exhausted",
    "backoff",
    "jitter",
}


class Retries(Middleware):
    """Turns an exception into a later attempt, or into a dead letter when none is left.

    A retry is no message: it is a row that becomes due, committed with the attempt that failed, so it
    cannot be lost between the two (as it can in Dramatiq's own Retries).

    Actor and message options:
      max_retries: attempts after the first; None for no end.  Default: the setting ``job_attempts`` - 1.
      min_backoff, max_backoff: milliseconds.  Defaults: settings.
      backoff: "exponential" (min_backoff doubled each time; the default), "fixed" (min_backoff), or a
        callable ``(retries, exception) -> milliseconds``.
      jitter: spread the delay by up to half of it in either direction; off by default.
      retry_when: ``(retries, exception) -> bool``; takes precedence over max_retries.
      throws: exception class, or tuple of them, that is never retried: reason ``refused``.
      on_retry_exhausted: name of an actor told of a job whose retries are spent, in the same commit.

    Exceptions an actor may raise: ``Retry(delay=ms)`` (spends an attempt), ``Snooze(ms)`` (spends none), ``Discard``
    and ``Failure`` (a dead letter at once; the second may be returned as well), ``Cancelled`` (cancelled, when that
    was asked for; else a failure).

    Fails closed: an error in ``retry_when`` or ``backoff`` counts as a failed attempt by max_retries.
    """

    def __init__(self, *, max_retries: int, min_backoff: int, max_backoff: int) -> None:
        self.max_retries = max_retries
        self.min_backoff = min_backoff
        self.max_backoff = max_backoff
        self.logger = get_logger(__name__, type(self))

    @property
    def actor_options(self) -> set[str]:
        return OPTIONS

    def after_process_message(
        self, broker: Broker, message: MessageProxy, *, result: Any = None, exception: BaseException | None = None
    ) -> None:
        if exception is None or not isinstance(message, JobMessage) or message.ending is not None:
            return
        match exception:
            case Snooze():
                message.end(Outcome.SNOOZED, delay_ms=exception.delay_ms)
            case Discard():
                message.end(Outcome.FAILED, reason=Reason.DISCARDED)
            case Failure():
                message.end(Outcome.FAILED, reason=Reason.FAILURE)
            case Shutdown():
                message.end(Outcome.INTERRUPTED)
            # The second is Dramatiq's word for a coroutine that was interrupted and needs over a second to clean up.
            case Cancelled() | RuntimeError(__cause__=Cancelled()) if message.cancelled:
                message.end(Outcome.CANCELLED)
            case _:
                self._retry_or_fail(broker, message, exception)

    def _retry_or_fail(self, broker: Broker, message: JobMessage, exception: BaseException) -> None:
        options = {**broker.get_actor(message.actor_name).options, **message.options}
        throws = options.get("throws")
        if throws and isinstance(exception, throws):
            message.end(Outcome.FAILED, reason=Reason.REFUSED)
            return
        retries = message.claim.attempts
        max_retries = options.get("max_retries", self.max_retries)
        if self._wanted(options.get("retry_when"), max_retries, retries, exception):
            message.end(Outcome.RETRYING, delay_ms=self._delay(options, retries, exception))
            return
        message.end(Outcome.FAILED, reason=Reason.RETRIES_EXHAUSTED)
        if target := options.get("on_retry_exhausted"):
            broker.get_actor(target).send(message.asdict(), {"retries": retries, "max_retries": max_retries})

    def _wanted(
        self,
        retry_when: Callable[[int, BaseException], bool] | None,
        max_retries: int | None,
        retries: int,
        exception: BaseException,
    ) -> bool:
        if retry_when is not None:
            try:
                return retry_when(retries, exception)
            except Exception:
                self.logger.exception("retry_when failed; going by max_retries=%s.", max_retries)
        return max_retries is None or retries < max_retries

    def _delay(self, options: dict[str, Any], retries: int, exception: BaseException) -> int:
        if isinstance(exception, Retry) and exception.delay is not None:
            return int(exception.delay)
        backoff: Backoff = options.get("backoff") or "exponential"
        floor = options.get("min_backoff") or self.min_backoff
        ceiling = options.get("max_backoff") or self.max_backoff
        if callable(backoff):
            try:
                delay = int(backoff(retries, exception))
            except Exception:
                self.logger.exception("The actor's backoff failed; using min_backoff=%s ms.", floor)
                delay = floor
        else:
            delay = floor if backoff == "fixed" else floor * 2 ** min(retries, 40)
        if options.get("jitter"):
            delay = int(delay * random.uniform(0.5, 1.5))
        return min(delay, ceiling)

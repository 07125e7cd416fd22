"""Dramatiq's results, kept in the ledger."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dramatiq.message import Message
from dramatiq.results import ResultBackend, ResultMissing, ResultTimeout
from dramatiq.results.errors import ResultFailure

from errors import InvalidResult, ResultRefused, ResultTooLarge
from ledger.sealing import RESULT, KeyRing, Seal
from ledger.states import State
from middleware.attempt import JobMessage
from middleware.waiting import pauses

if TYPE_CHECKING:
    from ledger.queries import Queries

DEFAULT_TIMEOUT_MS = 10_000
#: By the type that an attempt is recorded with.
REFUSED = {f"errors.{kind.__name__}": kind for kind in (InvalidResult, ResultTooLarge)}


class LedgerResults(ResultBackend):
    """The backend of Dramatiq's own ``Results`` middleware (which must keep its exact type).

    A result commits with the finish of the attempt that produced it, so a result that can be read
    belongs to a job recorded as completed, and a duplicate that was dropped overwrites nothing.

    It is written by the actor's return annotation, and read as plain JSON.  One that does not fit the annotation, or
    is too large, is not kept; the job is completed all the same, for it has done what it does, and its attempt says
    why there is no result, as does ``get_result()``.

    Parameters:
      written: the JSON of what the actor of this name returned; None for one without annotation.
      max_bytes: of that JSON.
    """

    def __init__(
        self,
        queries: "Callable[[], Queries]",
        ring: KeyRing,
        written: Callable[[str, Any], bytes | None],
        *,
        max_bytes: int,
    ) -> None:
        super().__init__()
        self.queries = queries
        self.ring = ring
        self.written = written
        self.max_bytes = max_bytes

    def store_result(self, message: Any, result: Any, ttl: int) -> None:
        """Keep a result with the message, for the finish.  ``ttl`` in milliseconds.  A step's is kept with its flow."""
        if not isinstance(message, JobMessage) or message.step is not None:
            return
        try:
            body = self._encoded(message.actor_name, result)
        except ResultRefused as error:
            message.result_error = error
            return
        message.result = body if message.seal is None else message.seal.close(RESULT, body.decode()).encode()
        message.result_ttl_ms = ttl

    def _encoded(self, actor: str, result: Any) -> bytes:
        body = self.written(actor, result)
        if body is None:
            try:
                body = self.encoder.encode(result)
            except (TypeError, ValueError, RecursionError) as error:
                raise InvalidResult(
                    f"{actor}: its result cannot be written as JSON ({error}); annotate what it returns, or return "
                    "plain values"
                ) from error
        if len(body) > self.max_bytes:
            raise ResultTooLarge(
                f"{actor}: its result is {len(body):,} bytes, the limit is {self.max_bytes:,}; store the data and "
                "return a reference to it (HARELINE_MAX_RESULT_BYTES raises the limit)"
            )
        return body

    def store_exception(self, message: Any, exception: BaseException, ttl: int) -> None:
        """Nothing to do: the attempt records the exception."""

    def get_result(self, message: Message[Any], *, block: bool = False, timeout: int | None = None) -> Any:
        """The result of a message's job.

        Raises:
          ResultMissing: not blocking, and the job is not finished, or kept no result.
          ResultTimeout: blocking, and it was not there within ``timeout`` milliseconds (10 s by default).
          ResultFailure: the job failed, or was cancelled; carries the type (or a ``Failure``'s code) and text of its
            last exception.
          InvalidResult, ResultTooLarge: the job is completed, and its result was not kept.
          Undecipherable: it is encrypted, and cannot be opened here.
        """
        for pause_s in pauses((DEFAULT_TIMEOUT_MS if timeout is None else timeout) / 1000):
            view = self.queries().result(message.message_id)
            if view.state is State.CANCELLED:
                raise ResultFailure("the job was cancelled", "Cancelled", "")
            if view.status == "failure":
                kind, text = view.error_type or "unknown", view.error_message or view.reason or ""
                short = kind.rpartition(".")[2]
                raise ResultFailure(f"actor raised {short}: {text}", short, text)
            if view.status == "refused":
                raise REFUSED[view.error_type or ""](view.error_message or "")
            if view.body is not None:
                body = Seal(self.ring, view.job).open(RESULT, view.body.decode()).encode()
                return self.unwrap_result(self.encoder.decode(body))  # type: ignore[no-untyped-call]
            if not block:
                raise ResultMissing(message)
            time.sleep(pause_s)
        raise ResultTimeout(message)

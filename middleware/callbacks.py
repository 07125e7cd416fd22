"""What is sent when a job has succeeded, or failed."""

from typing import Any

from dramatiq import Broker
from dramatiq.broker import MessageProxy
from dramatiq.middleware import Callbacks as StockCallbacks

from ledger.states import Outcome
from middleware.attempt import JobMessage


class Callbacks(StockCallbacks):
    """Dramatiq's: ``on_success``, and ``on_failure`` at each attempt that fails, whether it is tried again or not.

    An attempt that was snoozed, interrupted by a shutdown, cancelled or parked is no failure and sends nothing, though
    it ended by an exception.

    Actor and message options:
      on_success: name of an actor that is sent the message and the result.
      on_failure: name of an actor that is sent the message, and type and text of the error.
    """

    def after_process_message(
        self, broker: Broker, message: MessageProxy, *, result: Any = None, exception: BaseException | None = None
    ) -> None:
        ending = message.ending if isinstance(message, JobMessage) else None
        if exception is not None and ending is not None and ending.outcome not in (Outcome.FAILED, Outcome.RETRYING):
            return
        super().after_process_message(broker, message, result=result, exception=exception)  # type: ignore[no-untyped-call]

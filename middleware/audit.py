"""Records how every attempt ended."""

import traceback
from typing import Any

from dramatiq import Broker, Middleware
from dramatiq.broker import MessageProxy

from ledger.recorder import Recorder
from ledger.records import Finish, Finished
from ledger.states import Outcome, Reason
from middleware.attempt import MAX_ERROR, MAX_TRACEBACK, JobMessage


class Audit(Middleware):
    """The first middleware, so its after-hook is the last: it hands the recorder what the others decided.

    Outcome, error, result and follow-up jobs commit together; the message is acknowledged after that.
    Fails closed: what cannot be handed over is not acknowledged, and the rescuer returns it.
    """

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder

    def after_process_message(
        self, broker: Broker, message: MessageProxy, *, result: Any = None, exception: BaseException | None = None
    ) -> None:
        if isinstance(message, JobMessage):
            if message.ending is None:
                if exception is None and not message.failed:
                    message.end(Outcome.COMPLETED)
                else:
                    message.end(Outcome.FAILED, reason=Reason.RETRIES_EXHAUSTED if exception else Reason.REFUSED)
            self._submit(message, exception)

    def after_skip_message(self, broker: Broker, message: MessageProxy) -> None:
        if isinstance(message, JobMessage):
            if message.ending is None:
                if message.failed:
                    message.end(Outcome.FAILED, reason=Reason.REFUSED)
                else:
                    message.end(Outcome.SKIPPED)
            self._submit(message, message.exception)

    def _submit(self, message: JobMessage, exception: BaseException | None) -> None:
        finish = message.ending
        assert finish is not None
        if exception is not None:
            describe(finish, exception)
        elif message.troubles:
            finish.error_type = "MiddlewareFailure"
            finish.error_message = "; ".join(message.troubles)[:MAX_ERROR]
        if message.result is not None and finish.outcome is Outcome.COMPLETED:
            finish.result, finish.result_ttl_ms = message.result, message.result_ttl_ms
        finish.follow_ups = message.follow_ups
        finish.group, finish.group_jobs = message.group, message.group_jobs

        def answered(answer: Finished) -> None:
            message.settle(message, answer)

        message.submitted = True
        self.recorder.finish(finish, answered)


def describe(finish: Finish, exception: BaseException) -> None:
    """Write an exception into a finish: its type by full name, its text, its traceback, all bounded."""
    kind = type(exception)
    finish.error_type = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    finish.error_message = _text(exception)[:MAX_ERROR]
    if exception.__traceback__ is not None:
        lines = traceback.format_exception(exception, limit=30)
        finish.traceback = "".join(lines)[-MAX_TRACEBACK:]


def _text(exception: BaseException) -> str:
    try:
        return str(exception)
    except Exception as broken:  # a __str__ of the actor's own that fails must not cost the record
        return f"<{type(exception).__name__} whose text cannot be read: {type(broken).__name__}>"

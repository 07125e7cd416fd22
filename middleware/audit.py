"""Records how every attempt ended."""

import time
import traceback
from typing import Any

from dramatiq import Broker, Middleware
from dramatiq.broker import MessageProxy

from errors import Failure
from ledger.recorder import Recorder
from ledger.records import Finish, Finished
from ledger.sealing import ERROR, Seal
from ledger.states import Outcome, Reason
from middleware.attempt import MAX_ERROR, MAX_TRACEBACK, JobMessage

#: How far an exception is followed to those it was raised from.
MAX_CHAIN = 10


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
            if message.parted:
                message.submitted = True
                message.settle(message, None)
                return
            if message.ending is None:
                if message.failed:
                    message.end(Outcome.FAILED, reason=Reason.REFUSED)
                else:
                    message.end(Outcome.SKIPPED)
            self._submit(message, message.exception)

    def _submit(self, message: JobMessage, exception: BaseException | None) -> None:
        finish = message.ending
        assert finish is not None
        if error := exception or message.result_error:
            # That the arguments do not fit is worded without them.
            describe(finish, error, None if finish.reason is Reason.INVALID_PAYLOAD else message.seal)
        elif message.troubles:
            finish.error_type = "MiddlewareFailure"
            text = "; ".join(message.troubles)[:MAX_ERROR]
            finish.error_message = text if message.seal is None else message.seal.close(ERROR, text)
        if message.result is not None and finish.outcome is Outcome.COMPLETED:
            finish.result, finish.result_ttl_ms = message.result, message.result_ttl_ms
        finish.follow_ups = message.follow_ups
        finish.group, finish.group_jobs = message.group, message.group_jobs
        finish.step = message.step

        def answered(answer: Finished) -> None:
            message.settle(message, answer)

        message.submitted = True
        message.over = time.monotonic()
        self.recorder.finish(finish, answered)


def describe(finish: Finish, exception: BaseException, seal: Seal | None = None) -> None:
    """Write an exception into a finish: its type by full name, its text, its traceback, all bounded.

    With a ``seal`` the text, which may quote what is secret, is sealed, and the traceback has none.
    """
    code = exception.code if isinstance(exception, Failure) else None
    finish.error_type = code or _type(exception)
    text = _text(exception)[:MAX_ERROR]
    finish.error_message = text if seal is None else seal.close(ERROR, text)
    if exception.__traceback__ is not None:
        lines = traceback.format_exception(exception, limit=30) if seal is None else _frames(exception)
        finish.traceback = "".join(lines)[-MAX_TRACEBACK:]


def _type(exception: BaseException) -> str:
    kind = type(exception)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _frames(exception: BaseException) -> list[str]:
    """Where it was raised, and what it was raised from: files, lines and types, no texts."""
    lines: list[str] = []
    found: BaseException | None = exception
    for _ in range(MAX_CHAIN):
        if found is None:
            break
        raised = [*traceback.format_tb(found.__traceback__, limit=30), f"{_type(found)}\n"]
        lines = [*raised, "\nwhich led to\n\n", *lines] if lines else raised
        found = found.__cause__ or (None if found.__suppress_context__ else found.__context__)
    return lines


def _text(exception: BaseException) -> str:
    try:
        return str(exception)
    except Exception as broken:  # a __str__ of the actor's own that fails must not cost the record
        return f"<{type(exception).__name__} whose text cannot be read: {type(broken).__name__}>"

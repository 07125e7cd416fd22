"""What the log is not told of jobs that have secrets."""

import logging
from collections.abc import Mapping
from typing import Any

from dramatiq import Actor, Message
from dramatiq.broker import MessageProxy
from dramatiq.middleware import CurrentMessage

from ledger.redact import preview, redacted
from middleware.attempt import JobMessage

_WORKER = "dramatiq.worker.WorkerThread"


def keep_quiet(actor: Actor[Any, Any], *, always: bool) -> None:
    """Keep arguments out of what Dramatiq logs of an actor at DEBUG: ``always``, or in a job that has secrets."""

    def filter(record: logging.LogRecord) -> bool:
        current: object = CurrentMessage.get_current_message()
        if record.args and "args=" in str(record.msg):
            if always or _secret(current):
                record.msg, record.args = "Received arguments that are encrypted.", ()
            else:
                record.args = tuple(redacted(_plain(arg)) for arg in record.args)
        return True

    actor.logger.addFilter(filter)


def keep_worker_quiet() -> None:
    """Keep the texts of exceptions out of what Dramatiq's worker threads log of such jobs.  Idempotent."""
    logging.getLogger(_WORKER).addFilter(_without_exceptions)


def _without_exceptions(record: logging.LogRecord) -> bool:
    args = record.args if isinstance(record.args, tuple) else ()
    if any(map(_secret, args)):
        if record.exc_info and record.exc_info[0]:
            record.msg = f"{record.msg} It is {record.exc_info[0].__name__}; its text is encrypted in the ledger."
            record.exc_info = record.exc_text = None
        record.args = tuple(type(arg).__name__ if isinstance(arg, BaseException) else arg for arg in args)
    told = record.args if isinstance(record.args, tuple) else ()
    record.args = tuple(_called(arg) if isinstance(arg, Message | MessageProxy) else arg for arg in told) or record.args
    return True


def _called(message: "Message[Any] | MessageProxy") -> str:
    """As Dramatiq writes it, in short, and without what nobody is shown; of one with secrets no argument at all."""
    if _secret(message):
        return f"{message.actor_name}(…)"
    return f"{message.actor_name}({preview({'args': list(message.args), 'kwargs': message.kwargs})})"


def _plain(value: object) -> object:
    """Of what has parts of its own only what it is."""
    match value:
        case None | str() | int() | float():
            return value
        case Mapping():
            return {str(name): _plain(item) for name, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
    return f"<{type(value).__name__}>"


def _secret(message: object) -> bool:
    return isinstance(message, JobMessage) and message.seal is not None

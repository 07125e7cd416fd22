"""What the log is not told of jobs that have secrets."""

import logging
from typing import Any

from dramatiq import Actor
from dramatiq.middleware import CurrentMessage

from middleware.attempt import JobMessage

_WORKER = "dramatiq.worker.WorkerThread"


def keep_quiet(actor: Actor[Any, Any], *, always: bool) -> None:
    """Keep arguments out of what Dramatiq logs of an actor at DEBUG: ``always``, or in a job that has secrets."""

    def filter(record: logging.LogRecord) -> bool:
        current: object = CurrentMessage.get_current_message()
        if record.args and "args=" in str(record.msg) and (always or _secret(current)):
            record.msg, record.args = "Received arguments that are encrypted.", ()
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
    return True


def _secret(message: object) -> bool:
    return isinstance(message, JobMessage) and message.seal is not None

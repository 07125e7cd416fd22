"""Logging for every process of the project: text for people, JSON for machines, on stderr.

Log with ``structlog.get_logger(__name__)``: an event's name and fields.  What libraries write through the standard
library's logging comes out in the same format.  Every line that is written while a job runs says which.
"""

import logging
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import TextIO

import structlog
from structlog.typing import EventDict, ExcInfo, Processor

from settings import Settings

# They tell at INFO and below what the ledger tells better, and pika a paragraph for every connection.
_CHATTY = ("dramatiq", "pika", "apscheduler", "httpx", "alembic")


_surroundings: list[Callable[[], Mapping[str, object]]] = []


def add_surroundings(give: Callable[[], Mapping[str, object]]) -> None:
    """Add what ``give`` returns to every line: it is asked when one is written, in the thread that writes it."""
    if give not in _surroundings:
        _surroundings.append(give)


def surroundings(logger: object, method: str, event: EventDict) -> EventDict:
    """The structlog processor that does so, for who sets up logging by themselves; a line's own fields win."""
    for give in _surroundings:
        for name, value in give().items():
            event.setdefault(name, value)
    return event


def clean(text: object) -> str:
    """One printable line: control characters, line ends and what reverses the reading direction are spelt out."""
    line = str(text)
    return line if line.isprintable() else "".join(c if c.isprintable() else _spelt(c) for c in line)


def block(text: str) -> str:
    """As :func:`clean`, but lines stay lines."""
    return "\n".join(clean(line) for line in text.splitlines())


def _spelt(character: str) -> str:
    return character.encode("unicode_escape", "backslashreplace").decode("ascii")


def inert(logger: object, method: str, event: EventDict) -> EventDict:
    """The structlog processor for text: whatever jobs and their errors contain, a line is a line and nothing else."""
    return {name: clean(value) if isinstance(value, str) else value for name, value in event.items()}


def _traceback(stream: TextIO, exc_info: ExcInfo) -> None:
    """Without the values of variables, which the renderer's own prints: they are jobs' arguments, and secrets."""
    stream.write("\n" + block("".join(traceback.format_exception(*exc_info))))


def configure(settings: Settings) -> None:
    """Set up logging for this process.  Call it once, first thing in ``main``; again after a fork is harmless."""
    as_text = settings.log_format == "text" or (settings.log_format == "auto" and sys.stderr.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        surroundings,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper("%H:%M:%S" if as_text else "iso", utc=not as_text),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    render: list[Processor] = (
        [
            inert,
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=32, exception_formatter=_traceback),
        ]
        if as_text
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(ensure_ascii=False)]
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render]
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    logging.root.handlers[:] = [handler]
    logging.root.setLevel(settings.log_level)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.root.level))
    # It warns of every channel RabbitMQ closes; we say so too, unless it was to find out whether a queue exists.
    logging.getLogger("pika.channel").setLevel(max(logging.ERROR, logging.root.level))
    # Of every attempt to connect that fails it prints a page; why that was, and what to do, we say in a sentence.
    logging.getLogger("pika.adapters").setLevel(logging.CRITICAL)
    logging.captureWarnings(True)

"""What a process writes to stderr; each in a process of its own, for logging is set up once."""

import json
import subprocess
import sys

PROGRAM = """
import logging, warnings
import structlog
import logs
from settings import Settings

logs.configure(Settings(log_format="{format}", log_level="INFO"))
log = structlog.get_logger("hareline.test")
with structlog.contextvars.bound_contextvars(worker=7):
    log.info("job done", job="j1", queue="größe")
    logging.getLogger("library").warning("from %s", "outside", extra={{"port": 5672}})
log.debug("not this")
logging.getLogger("pika.connection").info("nor this")
logging.getLogger("pika.adapters.blocking_connection").error("nor that RabbitMQ is away, which we say ourselves")
logging.getLogger("dramatiq.worker").warning("but this")
try:
    secret = "the value of a variable"
    raise ZeroDivisionError("\\x1b[31mred\\u202e")
except ZeroDivisionError:
    log.exception("failed")
"""


def stderr(format: str) -> str:
    command = [sys.executable, "-c", PROGRAM.format(format=format)]
    run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    assert run.stdout == ""
    return run.stderr


def test_json_has_one_object_per_line_with_every_field() -> None:
    done, outside, dramatiq, failed = (json.loads(line) for line in stderr("json").splitlines())
    assert done["timestamp"].endswith("Z")
    del done["timestamp"]
    assert done == {
        "event": "job done",
        "level": "info",
        "logger": "hareline.test",
        "job": "j1",
        "queue": "größe",
        "worker": 7,
    }
    assert (outside["event"], outside["logger"], outside["port"], outside["worker"]) == (
        "from outside",
        "library",
        5672,
        7,
    )
    assert dramatiq["event"] == "but this"
    assert "ZeroDivisionError" in failed["exception"]


def test_text_has_no_values_of_variables_and_nothing_a_terminal_obeys() -> None:
    text = stderr("text")
    assert "ZeroDivisionError" in text
    assert "Traceback" in text
    assert "the value of a variable" not in text.replace('secret = "the value of a variable"', "")
    assert text.replace("\n", "").isprintable()


def test_text_is_for_people() -> None:
    text = stderr("text")
    first = text.splitlines()[0]
    assert "job done" in first
    assert "job=j1" in first
    assert "ZeroDivisionError" in text
    assert "not this" not in text
    assert "nor this" not in text
    assert "\x1b" not in text, "colours are for terminals"


def test_without_a_terminal_auto_is_json() -> None:
    assert all(json.loads(line)["event"] for line in stderr("auto").splitlines())

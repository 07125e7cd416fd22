"""The actors of the acceptance tests; ``dramatiq tests.acceptance.app`` runs them.

Each leaves a line in the file it is told, so that a test can count how often it really ran.
"""

import asyncio
import itertools
import logging
import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import dramatiq

import logs
from broker import build
from middleware.current import current_job
from settings import load

settings = load()
logs.configure(settings)
logging.getLogger("dramatiq").setLevel(logging.INFO)  # it says when a worker is ready
QUEUES = {
    name: SimpleNamespace(concurrency=slots, keep=None, rate=None, max_running=None, max_waiting=None)
    for name, slots in {"work": 8, "other": 8, "narrow": 1}.items()
}
broker = build(settings, queues=QUEUES)
dramatiq.set_broker(broker)


def note(path: str, line: object) -> None:
    """One line, in one write, so that lines of many processes never mix."""
    with open(path, "ab", buffering=0) as file:
        file.write(f"{line}\n".encode())


@dramatiq.actor(queue_name="work")
def record(path: str, line: object) -> None:
    note(path, line)


@dramatiq.actor(queue_name="other")
def record_other(path: str, line: object) -> None:
    note(path, line)


@dramatiq.actor(queue_name="narrow")
def record_narrow(path: str, line: object) -> None:
    note(path, line)


@dramatiq.actor(queue_name="work")
def record_start(path: str, line: object) -> None:
    """How late it began: the line, and this machine's clock."""
    note(path, f"{line} {time.time()}")


@dramatiq.actor(queue_name="work")
def nap(path: str, line: object, seconds: float) -> None:
    """Takes a while; one line at its start."""
    note(path, line)
    time.sleep(seconds)


@dramatiq.actor(queue_name="work")
def spin(path: str, line: object, ms: int) -> None:
    """Keeps a thread busy with bytecode, so that an interrupt may land anywhere."""
    end = time.monotonic() + ms / 1000
    while time.monotonic() < end:
        pass


@dramatiq.actor(queue_name="work", time_limit=50, max_retries=0)
def send_for_ever(path: str, line: object) -> None:
    """Sends until it is interrupted; one line for each send that returned."""
    for number in itertools.count():
        record.send(path, f"{line}/{number}")
        note(path, f"sent {line}/{number}")


@dramatiq.actor(queue_name="narrow")
def span_narrow(path: str, line: object, seconds: float) -> None:
    """Takes a while; one line with its start and its end."""
    start = time.monotonic()
    time.sleep(seconds)
    note(path, f"{line} {start} {time.monotonic()}")


@dramatiq.actor(queue_name="work", time_limit=float("inf"))
def hold(path: str, line: object, release: str) -> None:
    """Starts, then waits until the file ``release`` exists."""
    note(path, f"start {line}")
    while not Path(release).exists():
        time.sleep(0.02)
    note(path, f"end {line}")


@dramatiq.actor(queue_name="work")
def linger(path: str, line: object, ms: int) -> None:
    """Takes a while."""
    time.sleep(ms / 1000)
    note(path, line)


@dramatiq.actor(queue_name="other", time_limit=float("inf"))
def hold_other(path: str, line: object, release: str) -> None:
    hold(path, line, release)


@dramatiq.actor(queue_name="narrow", time_limit=float("inf"))
def hold_narrow(path: str, line: object, release: str) -> None:
    hold(path, line, release)


@dramatiq.actor(queue_name="work", time_limit=float("inf"))
def die(path: str, line: object) -> None:
    """Kills its process, every time."""
    note(path, line)
    os.kill(os.getpid(), signal.SIGKILL)


@dramatiq.actor(queue_name="work", max_retries=2, min_backoff=50)
def fail(path: str, line: object) -> None:
    note(path, line)
    raise RuntimeError(f"no luck with {line}")


@dramatiq.actor(queue_name="work", max_retries=3, min_backoff=50)
def fail_once(path: str, line: object) -> None:
    note(path, line)
    if Path(path).read_text().splitlines().count(str(line)) == 1:
        raise RuntimeError(f"not yet, {line}")


@dramatiq.actor(queue_name="work", max_retries=0)
def need(path: str, line: object, needed: str) -> None:
    """Fails unless the file ``needed`` exists."""
    note(path, line)
    if not Path(needed).exists():
        raise RuntimeError(f"{line} found nothing")


class UnreadableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text for you")


@dramatiq.actor(queue_name="work", max_retries=0)
def fail_strangely(how: str) -> None:
    """Raises what a ledger may stumble over."""
    raise {
        "nul": RuntimeError("a\x00b"),
        "surrogate": RuntimeError("a\udc80b"),
        "unreadable": UnreadableError(),
        "endless": RuntimeError("x" * 5_000_000),
    }[how]


@dramatiq.actor(queue_name="work", store_results=True)
def answer_strangely(how: str) -> object:
    return {"nul": "a\x00b", "surrogate": "a\udc80b", "not a number": float("nan")}[how]


@dramatiq.actor(queue_name="work", store_results=True)
def add(x: int, y: int) -> int:
    return x + y


@dramatiq.actor(queue_name="work", store_results=True, max_retries=0)
def divide(x: int, y: int) -> float:
    return x / y


@dramatiq.actor(queue_name="work", store_results=True)
async def add_later(x: int, y: int) -> int:
    await asyncio.sleep(0.01)
    return x + y


@dramatiq.actor(queue_name="work")
def fan_out(path: str, line: object, children: int) -> None:
    for child in range(children):
        record.send(path, f"{line}/{child}")


@dramatiq.actor(queue_name="other", max_retries=2, min_backoff=50, max_backoff=100)
def metered(path: str, number: int) -> None:
    """Every fifth fails at first, every tenth each time."""
    time.sleep(0.002)
    note(path, number)
    if number % 10 == 0 or (number % 5 == 0 and not current_job().attempt > 1):
        raise ValueError(number)

"""Actors that talk and listen while they run; ``dramatiq tests.acceptance.talking`` runs them."""

import asyncio
import json
import time
from pathlib import Path

import dramatiq

from errors import Cancelled
from middleware.current import current_job
from tests.acceptance.app import *  # noqa: F403
from tests.acceptance.app import note


def describe() -> str:
    job = current_job()
    known = (job.id, job.message_id, job.actor, job.queue, job.attempt, job.attempts)
    return json.dumps([*known, (job.due - job.created_at).total_seconds()])


@dramatiq.actor(queue_name="work", min_backoff=10)
def introduce(path: str, line: str) -> None:
    note(path, describe())
    if current_job().attempt == 1:
        raise RuntimeError("once more")


@dramatiq.actor(queue_name="work", min_backoff=10)
async def introduce_later(path: str, line: str) -> None:
    async def inner() -> None:
        await asyncio.sleep(0.01)
        note(path, describe())
        note(path, await asyncio.to_thread(describe))

    await asyncio.create_task(inner())


@dramatiq.actor(queue_name="work", cancel_grace=float("inf"))
def ask(path: str, line: str) -> None:
    """Asks whether it was cancelled, again and again."""
    note(path, f"start {line}")
    while True:
        current_job().check()
        time.sleep(0.01)


@dramatiq.actor(queue_name="work", cancel_grace=200)
def ask_nothing(path: str, line: str) -> None:
    note(path, f"start {line}")
    try:
        while True:
            time.sleep(0.01)
    finally:
        note(path, f"cleaned up {line}")


@dramatiq.actor(queue_name="work", cancel_grace=200)
async def wait_for_ever(path: str, line: str, clean_s: float = 0) -> None:
    note(path, f"start {line}")
    try:
        await asyncio.sleep(3_600)
    except asyncio.CancelledError:
        note(path, f"cleaned up {line} {current_job().cancelled}")
        await asyncio.sleep(clean_s)
        raise


@dramatiq.actor(queue_name="work", cancel_grace=float("inf"))
def return_when_asked(path: str, line: str) -> None:
    note(path, f"start {line}")
    while not current_job().cancelled:
        time.sleep(0.01)


@dramatiq.actor(queue_name="work", min_backoff=10, cancel_grace=float("inf"))
def fail_then_ask(path: str, line: str) -> None:
    if current_job().attempt == 1:
        raise RuntimeError(line)
    ask(path, line)


@dramatiq.actor(queue_name="work", max_retries=0)
def cancel_itself(path: str, line: str) -> None:
    raise Cancelled("I would rather not")


@dramatiq.actor(queue_name="work")
def report_often(path: str, line: str, release: str) -> None:
    """Reports 10,000 times at once, waits, and reports once more at its end."""
    job = current_job()
    for n in range(10_000):
        job.progress(n + 1, 20_000, note=line)
    note(path, f"reported {line}")
    while not Path(release).exists():
        time.sleep(0.01)
    for n in range(100):
        job.progress(19_901 + n, 20_000, note="done")


@dramatiq.actor(queue_name="work", time_limit=float("inf"), min_backoff=10)
def count(path: str, line: str, release: str, how: str = "") -> None:
    """Counts to 10 and keeps each number; waits at 5, or fails there once."""
    job = current_job()
    start = job.state["counted"] if job.state else 0
    note(path, f"from {start}")
    for number in range(start + 1, 11):
        job.checkpoint({"counted": number})
        assert job.state == {"counted": number}
        note(path, number)
        if number == 5 and how == "fails":
            raise RuntimeError("at five")
        while number == 5 and not Path(release).exists():
            time.sleep(0.01)


@dramatiq.actor(queue_name="work")
async def count_later(path: str, line: str) -> None:
    await asyncio.to_thread(current_job().checkpoint, [1])
    note(path, current_job().state)


@dramatiq.actor(queue_name="work", time_limit=float("inf"), max_retries=0)
def keep_late(path: str, line: str, release: str) -> None:
    """Keeps its state when it may: by then another worker may have the job."""
    note(path, f"start {line}")
    while not Path(release).exists():
        time.sleep(0.01)
    current_job().checkpoint(current_job().state or "kept")

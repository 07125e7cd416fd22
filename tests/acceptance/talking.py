"""Actors that talk and listen while they run; ``dramatiq tests.acceptance.talking`` runs them."""

import asyncio
import json

import dramatiq

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

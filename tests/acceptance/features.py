"""Actors that use what Dramatiq and this project offer them; ``dramatiq tests.acceptance.features`` runs them."""

import asyncio
from collections.abc import Mapping
from typing import Any

import dramatiq
from dramatiq import Broker, Middleware
from dramatiq.broker import MessageProxy
from dramatiq.middleware import CurrentMessage, SkipMessage

from errors import Discard, Retry, Snooze
from tests.acceptance.app import *  # noqa: F403
from tests.acceptance.app import broker, note


class Skipper(Middleware):
    """Skips messages sent with the option ``skip``."""

    @property
    def actor_options(self) -> set[str]:
        return {"skip"}

    def before_process_message(self, broker: Broker, message: MessageProxy) -> None:
        if message.options.get("skip"):
            raise SkipMessage("as asked")


broker.add_middleware(Skipper())


def first_time(path: str, line: str) -> bool:
    note(path, line)
    with open(path) as file:
        return file.read().splitlines().count(line) == 1


@dramatiq.actor(queue_name="work", max_retries=1, min_backoff=60_000)
def ask_for_a_retry(path: str, line: str, delay: int) -> None:
    if first_time(path, line):
        raise Retry("once more", delay=delay)


@dramatiq.actor(queue_name="work")
def discard(path: str, line: str) -> None:
    note(path, line)
    raise Discard("never")


@dramatiq.actor(queue_name="work", max_retries=0)
def snooze(path: str, line: str) -> None:
    if first_time(path, line):
        raise Snooze(50)


@dramatiq.actor(queue_name="work", throws=(ValueError,))
def refuse(path: str, line: str) -> None:
    note(path, line)
    raise ValueError("expected")


@dramatiq.actor(
    queue_name="work", min_backoff=10, retry_when=lambda retries, error: retries < 4 and type(error) is KeyError
)
def fail_pickily(path: str, line: str, other_at: int) -> None:
    note(path, line)
    with open(path) as file:
        times = file.read().splitlines().count(line)
    raise (OSError if times == other_at else KeyError)(line)


@dramatiq.actor(queue_name="work")
def told(message: Mapping[str, Any], info: Mapping[str, int]) -> None:
    path, line = message["args"][:2]
    note(path, f"told of {line} after {info['retries']} retries of {info['max_retries']}")


@dramatiq.actor(queue_name="work", max_retries=1, min_backoff=10, on_retry_exhausted="told")
def fail_and_tell(path: str, line: str) -> None:
    note(path, line)
    raise RuntimeError(line)


@dramatiq.actor(queue_name="work", max_retries=0, time_limit=100)
async def sleep_long(path: str, line: str) -> None:
    note(path, line)
    await asyncio.sleep(30)


@dramatiq.actor(queue_name="work", store_results=True)
def answer_with_an_object(path: str, line: str) -> object:
    note(path, line)
    return object()


@dramatiq.actor(queue_name="work")
def succeeded(message: Mapping[str, Any], result: object) -> None:
    path, line = message["args"][:2]
    note(path, f"{line} gave {result}")


@dramatiq.actor(queue_name="work")
def failed(message: Mapping[str, Any], error: Mapping[str, str]) -> None:
    path, line = message["args"][:2]
    note(path, f"{line} failed with {error['type']}")


@dramatiq.actor(queue_name="work", max_retries=0, on_success="succeeded", on_failure="failed")
def call_back(path: str, line: str, fails: bool) -> int:
    if fails:
        raise RuntimeError(line)
    return 42


@dramatiq.actor(queue_name="work")
def name_itself(path: str, line: str) -> None:
    message = CurrentMessage.get_current_message()
    assert message is not None
    note(path, f"{line} is {message.actor_name} of {message.queue_name}")


@dramatiq.actor(queue_name="work", min_backoff=20, atomic_sends=True)
def send_two_and_fail_once(path: str, line: str) -> None:
    record.send(path, f"{line}, first child")  # noqa: F405
    broker.enqueue_many([record.message(path, f"{line}, second child")])  # noqa: F405
    if first_time(path, line):
        raise RuntimeError("not yet")

"""What each policy costs a job that uses it: the same job that does nothing, under one policy at a time."""

import itertools
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import dramatiq
from pydantic import BaseModel

from benchmarks.contestants import THREADS
from benchmarks.ran import ran
from broker import build
from middleware.concurrency import Concurrency
from middleware.current import current_job
from middleware.rates import Rate
from middleware.unique import Unique
from settings import load

QUEUE = "bench-policies"
broker = build(
    load(),
    queues={QUEUE: SimpleNamespace(concurrency=THREADS, keep=None, rate=None, max_running=None, max_waiting=None)},
)
dramatiq.set_broker(broker)

ACTORS: dict[str, dramatiq.Actor[Any, Any]] = {}
_numbers = itertools.count()


def _actor(name: str, **options: Any) -> Callable[[Callable[..., None]], None]:
    def declare(fn: Callable[..., None]) -> None:
        ACTORS[name] = dramatiq.actor(actor_name=name, queue_name=QUEUE, **options)(fn)

    return declare


def _does_nothing(sent: float, number: int) -> None:
    ran(sent)


class Event(BaseModel):
    """An argument that is checked at both ends."""

    customer: str
    tokens: dict[str, int]
    at: float


_actor("plain")(_does_nothing)
_actor("metrics")(_does_nothing)
_actor("priority", priority=1)(_does_nothing)
_actor("expires", expires=3_600_000)(_does_nothing)
_actor("rate_limit", rate_limit=Rate(1_000_000, burst=100_000))(_does_nothing)
_actor("rate_limit by key", rate_limit=Rate(1_000_000, key="number", burst=100_000))(_does_nothing)
_actor("concurrency", concurrency=Concurrency(1_000))(_does_nothing)
_actor("sequence", sequence="number")(_does_nothing)
_actor("unique", unique=Unique(by=["number"]))(_does_nothing)
_actor("atomic_sends", atomic_sends=True)(_does_nothing)
_actor("store_results", store_results=True)(_does_nothing)


@_actor("schema")
def _schema(sent: float, number: int, event: Event) -> None:
    ran(sent)


@_actor("progress")
def _progress(sent: float, number: int) -> None:
    current_job().progress(1, 1)
    ran(sent)


@_actor("checkpoint")
def _checkpoint(sent: float, number: int) -> None:
    current_job().checkpoint({"number": number})
    ran(sent)


def message(kind: str, sent: float) -> dramatiq.Message[Any]:
    more = {"event": {"customer": "acme", "tokens": {"in": 120, "out": 34}, "at": sent}} if kind == "schema" else {}
    return ACTORS[kind].message(sent, next(_numbers), **more)


def send(kind: str, sent: float) -> None:
    broker.enqueue(message(kind, sent))


def bulk(kind: str, count: int) -> None:
    for _ in range(0, count, 1000):
        broker.enqueue_many([message(kind, time.time()) for _ in range(1000)])


def flush() -> None:
    """Until RabbitMQ has confirmed everything."""
    broker.road.flush(60)


def close() -> None:
    broker.close()

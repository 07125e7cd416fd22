"""Hareline: the full ledger on PostgreSQL, carried by RabbitMQ."""

import time
from types import SimpleNamespace

import dramatiq

from benchmarks.contestants import THREADS
from benchmarks.ran import ran
from broker import build
from settings import load

QUEUE = "bench-hareline"
broker = build(
    load(),
    queues={QUEUE: SimpleNamespace(concurrency=THREADS, keep=None, rate=None, max_running=None, max_waiting=None)},
)
dramatiq.set_broker(broker)


@dramatiq.actor(queue_name=QUEUE)
def noop(sent: float) -> None:
    ran(sent)


@dramatiq.actor(queue_name=QUEUE)
def nap(sent: float) -> None:
    time.sleep(0.002)
    ran(sent)


def send(kind: str, sent: float) -> None:
    (noop if kind == "noop" else nap).send(sent)


def bulk(kind: str, count: int) -> None:
    actor = noop if kind == "noop" else nap
    for _ in range(0, count, 1000):
        broker.enqueue_many([actor.message(time.time()) for _ in range(1000)])


def flush() -> None:
    """Until RabbitMQ has confirmed everything."""
    broker.road.flush(60)


def close() -> None:
    broker.close()

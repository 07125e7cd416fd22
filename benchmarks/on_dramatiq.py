"""Dramatiq's own RabbitMQ broker, confirms on.  It records nothing."""

import time

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker

from benchmarks.contestants import urls
from benchmarks.ran import ran

broker = RabbitmqBroker(url=urls()[0], confirm_delivery=True)
dramatiq.set_broker(broker)
QUEUE = "bench-dramatiq"


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
    """It has no bulk: a loop of confirmed sends."""
    for _ in range(count):
        send(kind, time.time())


def flush() -> None:
    """Each send waited for its confirm."""


def close() -> None:
    broker.close()

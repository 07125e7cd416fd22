"""Celery: acknowledged late, publishes confirmed, results kept in the same PostgreSQL."""

import time

from celery import Celery

from benchmarks.contestants import urls
from benchmarks.ran import ran

AMQP, DATABASE = urls()
app = Celery("bench", broker=AMQP, backend="db+" + DATABASE.replace("postgresql://", "postgresql+psycopg://"))
app.conf.update(
    task_acks_late=True,
    task_default_queue="bench-celery",
    worker_prefetch_multiplier=2,
    broker_transport_options={"confirm_publish": True},
    broker_connection_retry_on_startup=True,
)


@app.task(name="noop")  # type: ignore[untyped-decorator]
def noop(sent: float) -> None:
    ran(sent)


@app.task(name="nap")  # type: ignore[untyped-decorator]
def nap(sent: float) -> None:
    time.sleep(0.002)
    ran(sent)


def send(kind: str, sent: float) -> None:
    (noop if kind == "noop" else nap).delay(sent)


def bulk(kind: str, count: int) -> None:
    """It has no bulk: a loop of confirmed sends over one connection."""
    task = noop if kind == "noop" else nap
    with app.producer_pool.acquire(block=True) as producer:
        for _ in range(count):
            task.apply_async((time.time(),), producer=producer)


def flush() -> None:
    """Each send waited for its confirm."""


def close() -> None:
    app.close()

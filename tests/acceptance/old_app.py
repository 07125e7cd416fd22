"""The program before a deploy: it does not know most of ``app``'s actors yet."""

import logging
from types import SimpleNamespace

import dramatiq

import logs
from broker import build
from settings import load

settings = load()
logs.configure(settings)
logging.getLogger("dramatiq").setLevel(logging.INFO)  # it says when a worker is ready
broker = build(
    settings, queues={"work": SimpleNamespace(concurrency=8, keep=None, rate=None, max_running=None, max_waiting=None)}
)
dramatiq.set_broker(broker)


@dramatiq.actor(queue_name="work")
def long_known() -> None:
    """Declares the queue, so that this program consumes it."""

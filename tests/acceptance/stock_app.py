"""Stock Dramatiq on its own RabbitmqBroker, for controls: what is lost there must not be lost here.

``dramatiq tests.acceptance.stock_app`` runs it, on the queues and with the actors' names of ``app``.
"""

import os
import time
from pathlib import Path

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker

broker = RabbitmqBroker(url=os.environ["BROKER_URL"], confirm_delivery=True)
dramatiq.set_broker(broker)


def note(path: str, line: str) -> None:
    with open(path, "ab", buffering=0) as file:
        file.write(f"{line}\n".encode())


@dramatiq.actor(queue_name="work", time_limit=float("inf"))
def hold(path: str, line: str, release: str) -> None:
    note(path, f"start {line}")
    while not Path(release).exists():
        time.sleep(0.02)
    note(path, f"end {line}")


@dramatiq.actor(queue_name="work", max_retries=3, min_backoff=50)
def fail_once(path: str, line: str) -> None:
    note(path, line)
    if Path(path).read_text().splitlines().count(line) == 1:
        raise RuntimeError(f"not yet, {line}")

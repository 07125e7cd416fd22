"""The program before ``payloads`` was deployed: nothing is annotated, and some names are older."""

import dramatiq

from broker import build
from settings import load

broker = build(load())
dramatiq.set_broker(broker)


@dramatiq.actor(queue_name="work")
def bill(path, client, amount): ...  # type: ignore[no-untyped-def]


@dramatiq.actor(queue_name="work")
def take(path, order, at): ...  # type: ignore[no-untyped-def]

"""How many jobs a second the relay sends once they are due, with many more that are not."""

import time
from collections.abc import Mapping

import dramatiq
from sqlalchemy import text

from broker import build
from broker.amqp import AmqpRoad
from ledger.engine import Database
from middleware.relay import Relay
from settings import load

ACTOR, QUEUE = "promoted", "bench-promotion"


def promotion(env: Mapping[str, str], count: int) -> float:
    """Jobs per second from due to confirmed by RabbitMQ."""
    settings = load(dict(env))
    broker = build(settings)
    actor = dramatiq.actor(actor_name=ACTOR, queue_name=QUEUE, broker=broker)(_nothing)
    road = broker.road
    assert isinstance(road, AmqpRoad)
    for _ in range(0, count, 1000):
        broker.enqueue_many([actor.message() for _ in range(1000)], delay=86_400_000)
        broker.enqueue_many([actor.message() for _ in range(1000)], delay=172_800_000)
    database = Database(settings.database_url)
    with database.write() as connection:
        connection.execute(text("UPDATE tickets SET due_at = now() WHERE due_at < now() + interval '1.5 days'"))
    while not road.ready():  # connecting
        time.sleep(0.01)
    session = broker.ledger.session("bench-promotion")
    relay = Relay(road.send, resend_after_s=300, room=lambda: True)
    start = time.perf_counter()
    sent = 0
    while sent < count:
        sent += relay.run(session)
        road.flush(60)
    took = time.perf_counter() - start
    with database.write() as connection:
        connection.execute(text("DELETE FROM tickets"))
        connection.execute(text("DELETE FROM jobs"))
    session.close()
    broker.close()
    return sent / took


def _nothing() -> None:
    """Never runs."""

"""Where it all meets: the ledger, the road, and the middleware in their order.

broker = build(settings.load(), queues={"billing": 3})
dramatiq.set_broker(broker)

with transactional(connection):
    charge.send(order)
"""

from broker.actors import Actor, actor
from broker.broker import Broker
from broker.build import build, maintenance
from broker.transactional import transactional

__all__ = ["Actor", "Broker", "actor", "build", "maintenance", "transactional"]

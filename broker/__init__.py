"""Where it all meets: the ledger, the road, and the middleware in their order.

broker = build(settings.load(), queues={"billing": 3})
dramatiq.set_broker(broker)
"""

from broker.broker import Broker
from broker.build import build, maintenance

__all__ = ["Broker", "build", "maintenance"]

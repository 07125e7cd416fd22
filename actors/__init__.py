"""What can be done: every queue's actors, on one broker.

    dramatiq actors                      # a worker
    from actors.usage import …           # a producer

Importing reads the settings and connects to nothing.
"""

import dramatiq

from actors.queues import CATALOGUE
from broker import build
from settings import load

broker = build(load(), queues=CATALOGUE)
dramatiq.set_broker(broker)

# The actors bind to the broker as their modules are imported, so these come after it.
from actors import (  # noqa: E402
    billing,
    cache,
    chain,
    data,
    email,
    email_sync,
    embeddings,
    llm,
    maintenance,
    notifications,
    tools,
    usage,
    webhooks,
    workflows,
)

__all__ = [
    "billing",
    "broker",
    "cache",
    "chain",
    "data",
    "email",
    "email_sync",
    "embeddings",
    "llm",
    "maintenance",
    "notifications",
    "tools",
    "usage",
    "webhooks",
    "workflows",
]

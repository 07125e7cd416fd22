"""The catalogue of queues: plain data, one row per queue.

A queue is declared with the broker when its first actor is; a row without actors declares nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from ledger.records import Keep


@dataclass(frozen=True, slots=True)
class Queue:
    """One queue's defaults; settings may override them."""

    name: str
    concurrency: int  #: jobs of this queue that one worker process runs at the same time
    rate: str | None = None  #: at most this many starts per unit of time, over all workers: ``"10/s"``
    max_running: int | None = None  #: at most so many at once, over all workers
    max_waiting: int | None = None  #: beyond so many jobs that have not ended, a send raises ``QueueFull``
    keep: Keep | None = None  #: how long finished jobs stay in the hot table; None: as in the settings


_QUEUES = (
    Queue("usage-tracking", concurrency=5),
    Queue("billing", concurrency=3),
    Queue("embeddings", concurrency=3),
    Queue("email-sync", concurrency=5),
    Queue("notifications", concurrency=20),
    Queue("email", concurrency=5),
    Queue("webhooks", concurrency=10),
    Queue("llm-requests", concurrency=3, rate="10/s"),
    Queue("tool-execution", concurrency=10, rate="100/s"),
    Queue("workflow", concurrency=5),
    Queue("data-processing", concurrency=3),
    Queue("cache-warmup", concurrency=2),
    Queue("chain", concurrency=2),
    Queue("maintenance", concurrency=1),
)

CATALOGUE: Mapping[str, Queue] = MappingProxyType({queue.name: queue for queue in _QUEUES})

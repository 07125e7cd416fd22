"""As many worker threads as the queues of this process may run jobs at once."""

from collections.abc import Callable

from dramatiq import Broker, Middleware, Worker


class Capacity(Middleware):
    """Sets the number of worker threads to the sum of the concurrency of the queues it consumes.

    Each queue then has its own share and none can starve another.  ``dramatiq actors -t N`` is
    overruled; ``-Q`` and ``-p`` are obeyed.
    """

    def __init__(self, concurrency: Callable[[str], int]) -> None:
        self.concurrency = concurrency

    def before_worker_boot(self, broker: Broker, worker: Worker) -> None:
        queues = worker.consumer_whitelist or broker.get_declared_queues()
        worker.worker_threads = max(1, sum(self.concurrency(queue) for queue in queues))

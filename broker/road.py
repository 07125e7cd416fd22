"""What the broker asks of a road: to send, and to bring jobs in."""

from collections.abc import Sequence
from typing import Protocol

from broker.intake import Intake
from broker.work import WorkQueue
from ledger.records import Due, NewJob


class Road(Protocol):
    """How jobs travel from the ledger to the workers.  Thread-safe; starts nothing before it is used."""

    def send(self, jobs: Sequence[NewJob | Due]) -> None:
        """These jobs are committed and due: bring them to a worker.  Never blocks for long, never fails:
        what cannot be sent now is sent by the relay later."""
        ...

    def ready(self) -> bool:
        """Whether the relay should send now."""
        ...

    def consume(self, queue: str, timeout_s: float) -> Intake:
        """The intake of a queue, which begins to bring in jobs when it is first iterated."""
        ...

    def start(self, work: WorkQueue) -> None:
        """A worker is about to consume; its threads take from ``work``."""
        ...

    def stop(self) -> None:
        """Bring in nothing more; give back what has not started.  Acknowledging goes on."""
        ...

    def pause(self, queues: frozenset[str]) -> None:
        """Exactly these queues are paused."""
        ...

    def flush(self, timeout_s: float) -> bool:
        """Wait until everything sent is confirmed; false when time ran out."""
        ...

    def close(self) -> None:
        """Close connections.  Idempotent."""
        ...

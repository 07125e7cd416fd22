"""`<queue>.XQ`: what the ledger knows of dead letters, projected into RabbitMQ for people and other consumers."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ledger.ledger import Session
from ledger.records import Buried
from ledger.text import clean
from rabbitmq.management import PassiveCounts
from rabbitmq.publisher import Parcel

if TYPE_CHECKING:
    from ledger.queries import Queries

logger = logging.getLogger(__name__)

#: The ticket of a projection: no job has it, so a confirm for it marks nothing.
NO_TICKET = 0


def letter(
    *,
    job: str,
    queue: str,
    actor: str,
    message_id: str,
    body: bytes,
    priority: int,
    timestamp: int,
    headers: Mapping[str, Any],
) -> Parcel:
    """A dead letter as a message on ``queue``.XQ, whatever characters are in its texts."""
    return Parcel(
        queue=f"{queue}.XQ",
        body=body,
        job=job,
        ticket=NO_TICKET,
        message_id=clean(message_id),
        type=clean(actor),
        priority=priority,
        timestamp=timestamp,
        headers={
            f"hareline-{name}": clean(value) if isinstance(value, str) else value
            for name, value in headers.items()
            if value is not None
        },
    )


def of_buried(buried: Buried, timestamp: int) -> Parcel:
    return letter(
        job=buried.id,
        queue=buried.queue,
        actor=buried.actor,
        message_id=buried.message_id,
        body=buried.body,
        priority=1,
        timestamp=timestamp,
        headers={"reason": str(buried.reason), "error": buried.error, "attempts": 0},
    )


class Projection:
    """Keeps every .XQ equal to the ledger's failed jobs of its queue, but for those in history.

    New dead letters are published as they happen.  A retry or a discard makes the queue drift; when it
    differs from the ledger in two looks between which neither moved, it is purged and filled again.  Not while somebody
    consumes it: to him every refill would be the same letters once more, for ever.
    """

    def __init__(
        self,
        queries: "Callable[[], Queries]",
        *,
        publish: Callable[[Sequence[Parcel]], object],
        counts: Callable[[Sequence[str]], Mapping[str, PassiveCounts]],
        purge: Callable[[str], object],
        queues: Callable[[], Sequence[str]],
    ) -> None:
        self.queries = queries
        self.publish = publish
        self.counts = counts
        self.purge = purge
        self.queues = queues
        self._last: dict[str, tuple[int, int]] = {}
        self._consumed: set[str] = set()

    def publish_jobs(self, jobs: Sequence[str]) -> None:
        """Project failed jobs by id."""
        for job in jobs:
            view = self.queries().job(job)
            if view is not None and view.state == "failed":
                self.publish([self._of_view(view)])

    def reconcile(self, session: Session) -> list[str]:
        """Refill the queues that drifted; returns their names."""
        queues = list(self.queues())
        there = self.counts([f"{queue}.XQ" for queue in queues])
        failed = session.dead_counts(queues)
        drifted = []
        for queue in queues:
            ready, consumers = there.get(f"{queue}.XQ", (0, 0))
            if self._is_consumed(queue, consumers):
                self._last.pop(queue, None)
                continue
            now = (failed[queue], ready)
            if now[0] != now[1] and self._last.get(queue) == now:
                self._refill(queue)
                drifted.append(queue)
            self._last[queue] = now
        return drifted

    def _is_consumed(self, queue: str, consumers: int) -> bool:
        if consumers and queue not in self._consumed:
            logger.warning("%s.XQ has %d consumers: it is not filled again while they consume it", queue, consumers)
        (self._consumed.add if consumers else self._consumed.discard)(queue)
        return consumers > 0

    def _refill(self, queue: str) -> None:
        logger.info("%s.XQ drifted from the ledger: filling it again", queue)
        self.purge(f"{queue}.XQ")
        before = None
        while rows := self.queries().jobs(queue=queue, state="failed", limit=200, before=before, archived=False):
            self.publish_jobs([row.id for row in rows])
            before = rows[-1].id

    def _of_view(self, view: Any) -> Parcel:
        last = view.attempts[-1] if view.attempts else None
        return letter(
            job=view.id,
            queue=view.queue,
            actor=view.actor,
            message_id=view.message_id,
            body=view.body,
            priority=6 - view.priority,
            timestamp=int(view.created_at.timestamp()),
            headers={
                "reason": view.reason,
                "error": f"{last.error_type}: {last.error_message}"[:1000] if last and last.error_type else None,
                "attempts": view.attempts_spent,
            },
        )

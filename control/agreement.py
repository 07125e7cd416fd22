"""Do the ledger and RabbitMQ agree on what is on its way?"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ledger.in_flight import InFlight
from rabbitmq.reading import QueueReading, Reading, differences
from rabbitmq.topology import choose_type, topology

#: How old the management API's statistics may be when they are asked for.
STATISTICS_S = 5.0

Verdict = Literal["agree", "missing", "more", "unknown"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """One queue: what the ledger says waits in RabbitMQ, and what RabbitMQ says it holds."""

    queue: str
    verdict: Verdict
    count: int = 0  #: so many messages are missing, or more than expected
    waiting: int = 0
    held: int | None = None  #: messages in RabbitMQ, those in workers' hands too where it tells

    @property
    def words(self) -> str:
        """What it means, and what to do."""
        if self.verdict == "unknown":
            return f"{self.waiting} jobs waiting; how many messages RabbitMQ has is unknown"
        if self.verdict == "missing":
            return (
                f"{self.waiting} jobs waiting, and RabbitMQ has {self.held} messages: {self.count} are missing. The "
                f"sweep sends them again once the queue is empty; `hareline rebuild --queue {self.queue}` does so now"
            )
        if self.verdict == "more":
            return (
                f"{self.waiting} jobs waiting, and RabbitMQ has {self.held} messages: {self.count} more. Those of "
                "cancelled jobs are dropped when a worker gets them; what a foreign program sent becomes a job then"
            )
        return f"{self.waiting} jobs waiting, {self.held} messages in RabbitMQ"


def compare(ledger: Sequence[Mapping[str, InFlight]], reading: Reading, queues: Iterable[str]) -> list[Comparison]:
    """Each queue, from looks at the ledger around the reading.

    What is on its way between two looks is no difference: a queue agrees when some state between them would explain
    what RabbitMQ says.  Statistics that are up to 5 s old are given what the rates say may have moved since.
    """
    return [_compare(queue, [look.get(queue, InFlight()) for look in ledger], reading) for queue in queues]


def _compare(queue: str, looks: Sequence[InFlight], reading: Reading) -> Comparison:
    waiting = looks[-1].waiting
    there = reading.queues.get(queue)
    if there is None:
        there = QueueReading(queue, ready=0, unacknowledged=0, consumers=0)  # there is no such queue
    # Nobody holds a message of a queue that nobody consumes.
    unacknowledged = 0 if there.unacknowledged is None and there.consumers == 0 else there.unacknowledged
    if there.ready is None:
        return Comparison(queue, "unknown", waiting=waiting)
    moved = (there.published or 0.0) + (there.acknowledged or 0.0) + (there.delivered or 0.0)
    slack = math.ceil(moved * STATISTICS_S)
    least = min(max(0, look.waiting - look.unsent) for look in looks) - slack
    most = max(look.waiting + look.active for look in looks) + slack
    held = there.ready + (unacknowledged or 0)
    if held > most:
        return Comparison(queue, "more", held - most, waiting, held)
    if held < least:
        if unacknowledged is None:
            return Comparison(queue, "unknown", waiting=waiting)
        return Comparison(queue, "missing", least - held, waiting, held)
    return Comparison(queue, "agree", 0, waiting, held)


def faults(
    reading: Reading, queues: Iterable[str], setting: Literal["auto", "classic", "quorum"]
) -> dict[str, list[str]]:
    """How queues and their dead-letter queues differ from the topology, by their names in RabbitMQ.

    Those that are as they must be, are not there yet, or of which RabbitMQ does not tell, are left out.
    """
    wanted = topology(queues, queue_type=choose_type(setting, reading.server), server=reading.server)
    found = {}
    for queue in wanted:
        there = reading.queues.get(queue.name)
        if there is not None and there.declared is not None and (words := differences(queue, there.declared)):
            found[queue.name] = words
    return found

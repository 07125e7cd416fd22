"""What the broker asks of a road: to send, and to bring jobs in."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from broker.desk import Desk
from broker.intake import Intake
from broker.work import WorkQueue
from ledger.recorder import Recorder
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

    def quiet(self, quiet: bool) -> None:
        """Start nothing of any queue, or go on.  What runs, ends; what has not started goes back."""
        ...

    def resize(self) -> None:
        """As many jobs of each queue may run as its ``slots`` now say."""
        ...

    @property
    def intakes(self) -> Mapping[str, Intake]:
        """By queue."""
        ...

    def flush(self, timeout_s: float) -> bool:
        """Wait until everything sent is confirmed; false when time ran out."""
        ...

    def close(self) -> None:
        """Close connections.  Idempotent."""
        ...


class Intakes(ABC):
    """What both roads have: an intake for each queue.

    Parameters:
      slots: how many jobs of a queue may run in this process.
    """

    def __init__(self, recorder: Recorder, desk: Callable[[], Desk], slots: Callable[[str], int]) -> None:
        self.recorder = recorder
        self.desk = desk
        self.slots = slots
        self.intakes: dict[str, Intake] = {}
        self._quiet = False
        self._work: WorkQueue
        self._lock = threading.Lock()

    def quiet(self, quiet: bool) -> None:
        self._quiet = quiet
        for intake in self.intakes.values():
            intake.rest(quiet)
            self._on_quiet(intake)

    def resize(self) -> None:
        for intake in self.intakes.values():
            intake.resize(self.slots(intake.queue))

    def consume(self, queue: str, timeout_s: float) -> Intake:
        if (known := self.intakes.get(queue)) is not None and known.reopen(self._work):
            return known
        return Intake(
            queue,
            self.slots(queue),
            timeout_s,
            self._work,
            begin=self._begin,
            on_room=self._on_room,
            on_pace=self._on_pace,
            release=self.recorder.release,
            forget=self.recorder.forget,
        )

    def _begin(self, intake: Intake) -> None:
        with self._lock:
            self.intakes = {**self.intakes, intake.queue: intake}
        intake.rest(self._quiet)

    @abstractmethod
    def _on_quiet(self, intake: Intake) -> None:
        """It has begun, or ceased, to rest."""

    @abstractmethod
    def _on_room(self, intake: Intake, arrival: Any) -> None: ...

    @abstractmethod
    def _on_pace(self, intake: Intake) -> None: ...

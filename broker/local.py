"""The embedded road: the ledger itself serves the queues of this machine."""

from collections.abc import Callable, Sequence
from typing import Any

from broker.desk import Desk
from broker.intake import Intake
from broker.road import Intakes
from broker.work import WorkQueue
from embedded.doorbell import Doorbell
from embedded.server import Server
from ledger.ledger import Ledger
from ledger.recorder import Recorder
from ledger.records import Claim, Due, NewJob


class LocalRoad(Intakes):
    """Sending is ringing a bell; a job is brought in by stamping its row."""

    def __init__(
        self, ledger: Ledger, recorder: Recorder, desk: Callable[[], Desk], slots: Callable[[str], int]
    ) -> None:
        super().__init__(recorder, desk, slots)
        self.ledger = ledger
        self.bell = Doorbell(ledger.url)
        self._server: Server | None = None

    def send(self, jobs: Sequence[NewJob | Due]) -> None:
        self.bell.ring()

    def ready(self) -> bool:
        return True

    def start(self, work: WorkQueue) -> None:
        self._work = work
        self.bell.listen()
        self._server = Server(self.ledger, self.recorder, self.bell, wants=self._wants, deliver=self._deliver)
        self._server.start()

    def stop(self) -> None:
        for intake in self.intakes.values():
            intake.closing = True
        if self._server is not None:
            self._server.stop()
        for intake in self.intakes.values():
            intake.stop()

    def pause(self, queues: frozenset[str]) -> None:
        """Nothing to do: taking skips paused queues."""

    def flush(self, timeout_s: float) -> bool:
        return True

    def close(self) -> None:
        self.stop()
        self.bell.close()

    def _begin(self, intake: Intake) -> None:
        super()._begin(intake)
        self.bell.nudge()

    def _wants(self) -> dict[str, int]:
        return {queue: intake.room for queue, intake in self.intakes.items()}

    def _deliver(self, claim: Claim) -> None:
        intake = self.intakes[claim.queue]
        if intake.reserve():
            self.desk().admit(claim, claim.body, intake, done=_nothing)
        else:  # it was closed while the job was being taken
            self.recorder.release(claim.id, claim.epoch)

    def _on_quiet(self, intake: Intake) -> None:
        self._on_room(intake, None)

    def _on_pace(self, intake: Intake) -> None:
        self._on_room(intake, None)

    def _on_room(self, intake: Intake, arrival: Any) -> None:
        if self._server is not None:
            self._server.room()


def _nothing() -> None:
    """No message to acknowledge: the claim was the delivery."""

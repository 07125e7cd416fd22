"""Takes ready jobs from the ledger for the queues of one process."""

import logging
import threading
import time
from collections.abc import Callable, Mapping

from embedded.doorbell import Doorbell
from errors import LedgerError
from ledger.ledger import Ledger
from ledger.recorder import Recorder
from ledger.records import Claim

logger = logging.getLogger(__name__)

#: How often to look when no bell rings: for producers on other machines, and rings that got lost.
POLL_S = 0.25


class Server(threading.Thread):
    """Looks when a bell rings, when a slot becomes free, and every quarter of a second.

    Parameters:
      wants: how many jobs each queue could start now.
      deliver: called with each claimed job, on this thread.
    """

    def __init__(
        self,
        ledger: Ledger,
        recorder: Recorder,
        bell: Doorbell,
        *,
        wants: Callable[[], Mapping[str, int]],
        deliver: Callable[[Claim], None],
    ) -> None:
        super().__init__(name="hareline-server", daemon=True)
        self.ledger = ledger
        self.recorder = recorder
        self.bell = bell
        self.wants = wants
        self.deliver = deliver
        self._stopping = False
        self._idle = False

    def room(self) -> None:
        """A slot became free.  Any thread; costs nothing while the server is at work anyway."""
        if self._idle:
            self.bell.nudge()

    def stop(self) -> None:
        """Take nothing more; returns when the last take has been delivered."""
        self._stopping = True
        self.bell.nudge()
        if self.is_alive() and threading.current_thread() is not self:
            self.join(timeout=10.0)

    def run(self) -> None:
        session = self.ledger.session("hareline-server")
        while not self._stopping:
            offered = self.wants()
            wants = {queue: room for queue, room in offered.items() if room > 0}
            try:
                taken = session.take(self.recorder.worker, wants, suspects=self.recorder.suspects) if wants else []
            except Exception as error:  # whatever it is: without this thread the worker lives and does nothing
                logger.warning("no jobs can be taken: %s", error, exc_info=not isinstance(error, LedgerError))
                time.sleep(0.5)
                continue
            for claim in taken:
                self.recorder.took(claim)
                try:
                    self.deliver(claim)
                except Exception:
                    logger.critical("job %s cannot be given to a worker thread", claim.id, exc_info=True)
                    self.recorder.release(claim.id, claim.epoch)
            if not taken:
                self._idle = True
                if self.wants() == offered:
                    self.bell.wait(POLL_S)
                self._idle = False
        session.close()

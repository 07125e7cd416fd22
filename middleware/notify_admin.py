"""Counts dead letters, for one message about all of them."""

import logging
import threading
from collections.abc import Callable, Mapping

from dramatiq import Broker, Middleware, Worker

from ledger.events import JobEvent

logger = logging.getLogger(__name__)

#: What was counted is written down so soon.
WRITE_S = 2.0

#: By (queue, actor, reason, type of the error): how many, and the last one's id.
Counted = Mapping[tuple[str, str, str, str], tuple[int, str]]


class NotifyAdmin(Middleware):
    """Listens for dead letters and has those of a while counted in the ledger: ten thousand make one message.

    Has no options.  Fails open: what a killed process had counted and not written is told to nobody; its dead letters
    are in the ledger all the same.

    Parameters:
      note: adds what was counted to what nobody was told of.
    """

    def __init__(self, note: Callable[[Counted], None]) -> None:
        self.note = note
        self._lock = threading.Lock()
        self._counted: dict[tuple[str, str, str, str], tuple[int, str]] = {}
        self._timer: threading.Timer | None = None

    def dead(self, event: JobEvent) -> None:
        """The listener."""
        key = (event.queue, event.actor, str(event.reason or event.event), event.error_type or "")
        with self._lock:
            self._counted[key] = (self._counted.get(key, (0, ""))[0] + 1, event.job)
            if self._timer is None:
                self._timer = threading.Timer(WRITE_S, self.write)
                self._timer.daemon = True
                self._timer.start()

    def write(self) -> None:
        """Write down what was counted.  What cannot be written is, with the next."""
        with self._lock:
            counted, self._counted, self._timer = self._counted, {}, None
        if not counted:
            return
        try:
            self.note(counted)
        except Exception as error:
            logger.warning("%d dead letters could not be counted: %s", sum(n for n, _ in counted.values()), error)
            with self._lock:
                for key, (number, job) in counted.items():
                    more, last = self._counted.get(key, (0, job))
                    self._counted[key] = number + more, last

    def after_worker_shutdown(self, broker: Broker, worker: Worker) -> None:
        self.write()

"""Says that this worker process lives, on a thread and a connection of its own."""

import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from importlib.metadata import version

from dramatiq import Broker, Middleware, Worker

from errors import LedgerError
from ledger.ledger import Ledger, Session
from ledger.recorder import Recorder

logger = logging.getLogger(__name__)

#: While a queue is paused, how long until a resume is noticed.
PAUSED_POLL_S = 1.0

#: CLOCK_BOOTTIME goes on while a laptop sleeps; CLOCK_MONOTONIC does not, and would call a night continuous.
_clock: Callable[[], float] = (
    (lambda: time.clock_gettime(time.CLOCK_BOOTTIME)) if hasattr(time, "CLOCK_BOOTTIME") else time.time
)


class Heartbeat(Middleware):
    """Registers the process, beats three times per lease, and finds out when it was fenced.

    A fenced process (it stalled past its lease) goes on under a new id: what it still runs will be
    refused by epoch when it finishes, what it claims from now on is its own.
    Fails closed: without a place in the ledger a worker does not start.
    """

    def __init__(
        self,
        ledger: Ledger,
        recorder: Recorder,
        *,
        lease_s: float,
        on_paused: Callable[[frozenset[str]], None],
    ) -> None:
        self.ledger = ledger
        self.recorder = recorder
        self.lease_s = lease_s
        self.on_paused = on_paused
        self._stop = threading.Event()
        self._paused: frozenset[str] = frozenset()
        self._since: float | None = None
        self._last = 0.0
        self._thread: threading.Thread | None = None

    def before_worker_boot(self, broker: Broker, worker: Worker) -> None:
        self._queues = sorted(worker.consumer_whitelist or broker.get_declared_queues())
        self._threads = worker.worker_threads
        self._session = self.ledger.session("hareline-heartbeat")
        self._join(self._session)
        self._thread = threading.Thread(target=self._run, name="hareline-heartbeat", daemon=True)
        self._thread.start()

    def before_worker_shutdown(self, broker: Broker, worker: Worker) -> None:
        session = self.ledger.session("hareline-announce")
        try:
            session.announce(self.recorder.worker)
        except LedgerError as error:
            logger.error("the shutdown of worker %s could not be announced: %s", self.recorder.worker, error)
        finally:
            session.close()

    def leave(self) -> None:
        """The last word of a worker: everything it still owns goes back at once."""
        self._stop.set()
        if self._thread is None:
            return
        self._thread.join(timeout=5.0)
        try:
            self._session.leave(self.recorder.worker)
        except LedgerError as error:
            logger.error("worker %s could not sign off; its lease will run out: %s", self.recorder.worker, error)
        finally:
            self._session.close()

    def continuous_s(self) -> float:
        """For how long this process's beats have come without a gap; who has been away may not judge others."""
        return 0.0 if self._since is None or _clock() - self._last > self.lease_s else _clock() - self._since

    def _join(self, session: Session) -> None:
        self.recorder.worker = session.join(
            host=socket.gethostname(), pid=os.getpid(), queues=self._queues, threads=self._threads, version=version("hareline")
        )
        self._since = self._last = _clock()

    def _run(self) -> None:
        while not self._stop.wait(min(self.lease_s / 3, PAUSED_POLL_S) if self._paused else self.lease_s / 3):
            try:
                self._beat()
            except LedgerError as error:
                self._since = None
                logger.warning("worker %s could not beat: %s", self.recorder.worker, error)
            except Exception:
                self._since = None
                logger.critical("worker %s: the heartbeat failed", self.recorder.worker, exc_info=True)

    def _beat(self) -> None:
        held = list(self.recorder.held.items())
        beat = self._session.beat(self.recorder.worker, held, lease_s=self.lease_s)
        now = _clock()
        if self._since is None or now - self._last > self.lease_s:
            self._since = now
        self._last = now
        if not beat.alive:
            logger.error(
                "worker %s was silent for longer than its lease of %.0f s and was fenced; its %d jobs belong to others now",
                self.recorder.worker,
                self.lease_s,
                len(held),
            )
            for job, epoch in held:
                if self.recorder.held.get(job) == epoch:
                    del self.recorder.held[job]
            self._join(self._session)
            return
        if beat.released:
            logger.warning("worker %s gave back %d jobs it owned but did not hold", self.recorder.worker, beat.released)
        self._paused = beat.paused
        self.on_paused(beat.paused)

"""Says that this worker process lives, on a thread and a connection of its own."""

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version

import dramatiq
from dramatiq import Worker

from errors import LedgerError
from ledger.ledger import Ledger, Session
from ledger.recorder import Recorder

logger = logging.getLogger(__name__)

#: While jobs run, how often those that were asked to stop are looked for, and progress that waited is written.
LOOK_S = 1.0
#: While a queue is paused, how long until a resume is noticed.
PAUSED_POLL_S = 1.0
#: After a beat that failed, how long until the next: a connection that broke is only replaced by asking again.
RETRY_S = 0.2


class Heartbeat:
    """Registers the process, beats three times per lease, and finds out when it was fenced.

    It also hears which of the process's jobs were asked to stop: within a second, of which a beat would take ten;
    and as often, and once before the first job, lets ``on_look`` use its connection.

    A fenced process (it stalled past its lease) goes on under a new id: what it still runs will be
    refused by epoch when it finishes, what it claims from now on is its own.
    """

    def __init__(
        self,
        ledger: Ledger,
        recorder: Recorder,
        *,
        lease_s: float,
        on_paused: Callable[[frozenset[str]], None],
        on_cancel: Callable[[Sequence[tuple[str, int]]], None],
        on_look: Callable[[Session], None],
    ) -> None:
        self.ledger = ledger
        self.recorder = recorder
        self.lease_s = lease_s
        self.on_paused = on_paused
        self.on_cancel = on_cancel
        self.on_look = on_look
        self._paused: frozenset[str] = frozenset()
        self._wake = threading.Event()
        self._stopping = False
        self._thread: threading.Thread | None = None

    def join(self, broker: dramatiq.Broker, worker: Worker) -> None:
        """Take a place in the ledger.  Raises ``LedgerUnavailable``: without one a worker must not start."""
        self._queues = sorted(worker.consumer_whitelist or broker.get_declared_queues())
        self._threads = worker.worker_threads
        self._stopping = False
        self._session = self.ledger.session("hareline-heartbeat")
        self._register()
        self.on_look(self._session)
        self._thread = threading.Thread(target=self._run, name="hareline-heartbeat", daemon=True)
        self._thread.start()

    def look(self) -> None:
        """Beat now: a queue was found paused, and when it is resumed must be noticed.  Any thread."""
        self._wake.set()

    def announce(self) -> None:
        """Say that this worker is shutting down: from now on its death is no crash."""
        session = self.ledger.session("hareline-announce")
        try:
            session.announce(self.recorder.worker)
        except LedgerError as error:
            logger.error("the shutdown of worker %s could not be announced: %s", self.recorder.worker, error)
        finally:
            session.close()

    def leave(self) -> None:
        """The last word of a worker: everything it still owns goes back at once."""
        self._stopping = True
        self._wake.set()
        if self._thread is None:
            return
        self._thread.join(timeout=5.0)
        try:
            self._session.leave(self.recorder.worker)
        except LedgerError as error:
            logger.error("worker %s could not sign off; its lease will run out: %s", self.recorder.worker, error)
        finally:
            self._session.close()

    def _register(self) -> None:
        self.recorder.worker = self._session.join(
            host=socket.gethostname(),
            pid=os.getpid(),
            queues=self._queues,
            threads=self._threads,
            version=version("hareline"),
        )

    def _run(self) -> None:
        beat_at = time.monotonic() + self.lease_s / 3
        while True:
            beats = self._wake.wait(min(LOOK_S, max(0.0, beat_at - time.monotonic())))
            self._wake.clear()
            if self._stopping:
                return
            self.recorder.write_progress()
            pause_s = min(RETRY_S, self.lease_s / 3)
            try:
                self.on_look(self._session)
                if beats or time.monotonic() >= beat_at:
                    self._beat()
                else:
                    if self.recorder.held:
                        self.on_cancel(self._session.asked_to_stop(self.recorder.worker))
                    continue
            except LedgerError as error:
                logger.warning("worker %s could not beat: %s", self.recorder.worker, error)
            except Exception:
                logger.critical("worker %s: the heartbeat failed", self.recorder.worker, exc_info=True)
            else:
                pause_s = min(self.lease_s / 3, PAUSED_POLL_S) if self._paused else self.lease_s / 3
            beat_at = time.monotonic() + pause_s

    def _beat(self) -> None:
        held = list(self.recorder.held.copy().items())
        beat = self._session.beat(self.recorder.worker, held, lease_s=self.lease_s)
        if not beat.alive:
            logger.error(
                "worker %s was silent for over its lease of %.0f s and was fenced; its %d jobs belong to others now",
                self.recorder.worker,
                self.lease_s,
                len(held),
            )
            for job, epoch in held:
                self.recorder.forget(job, epoch)
            self._register()
            return
        if beat.released:
            logger.warning("worker %s gave back %d jobs it owned but did not hold", self.recorder.worker, beat.released)
        self.on_cancel([pair for pair in held if pair[0] in beat.cancel])
        self._paused = beat.paused
        self.on_paused(beat.paused)  # at every beat: the road may have found a pause that no beat has seen

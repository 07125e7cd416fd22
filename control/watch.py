"""Reads how the whole ledger stands, for Prometheus: one process does, of however many were asked for metrics."""

import logging
import os
import random
import socket
import threading
import time

from errors import HarelineError
from ledger.ledger import Ledger
from metrics.meter import Meter
from settings import Settings

logger = logging.getLogger(__name__)

LEASE = "metrics"
#: How often the ledger is read, in seconds; less often when that takes more than so much of the time.
EVERY_S = 10.0
SHARE = 0.05


class LedgerWatch:
    """A thread of a scheduler or a console.  Whoever has the lease reads, the others show nothing of it.

    Parameters:
      meter: where what was read is shown.
    """

    def __init__(self, ledger: Ledger, settings: Settings, meter: Meter, *, every_s: float = EVERY_S) -> None:
        self._ledger = ledger
        self._url = settings.database_url
        self._meter = meter
        self._every_s = every_s
        self._holder = f"{socket.gethostname()}:{os.getpid()}:{random.getrandbits(32):08x}"
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hareline-watch", daemon=True)

    def start(self) -> None:
        """Once."""
        self._thread.start()

    def stop(self) -> None:
        """Let another read at once."""
        self._stopping.set()
        self._thread.join(5.0)

    def _run(self) -> None:
        from ledger.gauges import METRICS, gauges  # with it comes SQLAlchemy
        from metrics.catalogue import READ_AT, READ_S

        session = self._ledger.session("hareline-watch")
        pause_s = self._every_s
        while True:
            try:
                if session.lease(LEASE, self._holder, 3 * pause_s) is None:
                    self._meter.show(METRICS, [])
                else:
                    began = time.monotonic()
                    found = gauges(self._url)
                    took_s = time.monotonic() - began
                    self._meter.show(METRICS, [*found, (READ_AT, (), time.time()), (READ_S, (), took_s)])
                    pause_s = max(self._every_s, took_s / SHARE)
            except HarelineError as error:
                logger.warning("metrics of the ledger are not read: %s", error)
            except Exception:
                logger.exception("metrics of the ledger could not be read")
            if self._stopping.wait(pause_s):
                break
        try:
            session.unlease(LEASE, self._holder)
        except HarelineError as error:
            logger.warning("the lease of the metrics could not be given back, it will run out: %s", error)
        session.close()

"""What operators change while this process runs: quiet and stop, and how much of each queue it may do."""

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

import dramatiq
from dramatiq import Middleware, Worker

from broker.ends import Exit
from broker.road import Road
from broker.room import Room
from broker.sizes import Sizes
from ledger.ledger import Session
from ledger.orders import DOES, Knob, Mode, Orders, Wish, WorkerReport
from ledger.recorder import Recorder
from middleware.concurrency import ConcurrencyLimits
from middleware.limits import Limits

logger = logging.getLogger(__name__)

#: How often, in seconds, a worker says how it is, if that has changed.
REPORT_S = 5.0
#: A change of memory that is worth a report, in bytes.
NOTABLE = 4 * 2**20


class Runtime(Middleware):
    """Brings a worker to what operators ask, once a second: on the heartbeat's thread, over its connection.

    Has no options.  Fails as it stands: while the ledger cannot be asked, the worker goes on as it was told last.
    """

    def __init__(
        self,
        recorder: Recorder,
        road: Callable[[], Road],
        sizes: Sizes,
        room: Room,
        rates: Limits,
        gates: ConcurrencyLimits,
        exit: Exit,
    ) -> None:
        self.recorder = recorder
        self.road = road
        self.sizes = sizes
        self.room = room
        self.rates = rates
        self.gates = gates
        self.exit = exit
        self.mode = Mode.RUNNING
        self._worker: Worker | None = None
        self._said: WorkerReport | None = None
        self._said_at = 0.0
        self._said_by = 0

    # -- a worker's life
    def before_worker_boot(self, broker: dramatiq.Broker, worker: Worker) -> None:
        """The heartbeat has looked already: there are as many threads as there are to be."""
        worker.worker_threads = self._threads(worker)

    def after_worker_boot(self, broker: dramatiq.Broker, worker: Worker) -> None:
        self._worker = worker

    def before_worker_shutdown(self, broker: dramatiq.Broker, worker: Worker) -> None:
        self._worker = None  # no thread is added from here on
        self.mode = Mode.STOPPING

    # -- on the heartbeat's thread
    def look(self, session: Session) -> None:
        """Hear what is asked, do it, and say how the worker is."""
        orders = session.orders(self.recorder.worker)
        self.learn(orders)
        self._obey(orders.wish)
        self._report(session)

    def learn(self, orders: Orders) -> None:
        """Go by what operators have changed of queues."""
        self.rates.learn(orders.queues[Knob.RATE])
        self.gates.learn(orders.queues[Knob.MAX_RUNNING])
        self.room.learn(orders)
        if self.sizes.learn({queue: int(x.count) for queue, x in orders.queues[Knob.CONCURRENCY].items()}):
            self._resize()

    def _resize(self) -> None:
        worker = self._worker
        if worker is not None:
            # Threads first.  None is taken away: those without a slot to fill only wait.
            for _ in range(self._threads(worker) - len(worker.workers)):
                worker._add_worker()
            logger.info("this worker runs up to %d jobs at once now", self._threads(worker))
        self.road().resize()

    def _threads(self, worker: Worker) -> int:
        queues = worker.consumer_whitelist or worker.broker.get_declared_queues()
        return max(1, sum(map(self.sizes, queues)))

    def _obey(self, wish: Wish | None) -> None:
        wanted = DOES[wish] if wish else None
        if wanted is None or wanted is self.mode or self.mode is Mode.STOPPING:
            return
        if wanted is Mode.STOPPING and self._worker is None:
            return  # it is about to boot, and would miss the signal
        logger.info("worker %s is asked to be %s", self.recorder.worker, wanted)
        self.road().quiet(wanted is not Mode.RUNNING)
        self.mode = wanted
        if wanted is Mode.STOPPING and not self.exit.leave():
            self.mode = Mode.QUIET
            logger.warning(
                "worker %s was asked to stop, but is run by a program of its own (pid %d): it is quiet until that ends",
                self.recorder.worker,
                os.getpid(),
            )

    # -- what it says
    def _report(self, session: Session) -> None:
        intakes = self.road().intakes.values()
        report = WorkerReport(
            self.mode,
            self.exit.how,
            self.exit.master,
            sum(intake.running for intake in intakes),
            memory(),
            {intake.queue: intake.slots for intake in intakes},
        )
        if not self._is_news(report):
            return
        session.report_worker(self.recorder.worker, report)
        self._said, self._said_at, self._said_by = report, time.monotonic(), self.recorder.worker

    def _is_news(self, report: WorkerReport) -> bool:
        said = self._said
        if said is None or self._said_by != self.recorder.worker:
            return True
        if (said.mode, said.ends, said.slots) != (report.mode, report.ends, report.slots):
            return True
        if report.mode is not Mode.RUNNING and said.busy != report.busy:
            return True  # somebody waits for it to be idle
        if time.monotonic() - self._said_at < REPORT_S:
            return False
        return said.busy != report.busy or abs((said.rss or 0) - (report.rss or 0)) >= NOTABLE


def memory() -> int | None:
    """Bytes of this process that are in memory; None where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None

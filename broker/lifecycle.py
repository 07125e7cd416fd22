"""A worker process from boot to its last word."""

from collections.abc import Callable
from queue import Empty

import dramatiq
from dramatiq import Middleware, Worker
from dramatiq.broker import MessageProxy
from dramatiq.logging import get_logger
from dramatiq.middleware import SkipMessage

from broker.road import Road
from broker.work import WorkQueue
from ledger.recorder import Recorder
from ledger.states import Outcome
from middleware.attempt import JobMessage
from middleware.heartbeat import Heartbeat
from middleware.maintenance import Maintenance


class Lifecycle(Middleware):
    """Starts the road and the duties with a worker, and stops them in the order in which nothing is lost.

    Stop consuming; return what has not started; let run or interrupt what has; write; acknowledge; close.
    """

    def __init__(
        self,
        road: Road,
        recorder: Recorder,
        heartbeat: Heartbeat,
        maintenance: Callable[[], Maintenance],
        check: Callable[[], None],
    ) -> None:
        self.road = road
        self.recorder = recorder
        self.heartbeat = heartbeat
        self.make_maintenance = maintenance
        self.maintenance: Maintenance | None = None
        self.check = check
        self._stopping = False
        self._work: WorkQueue
        self.logger = get_logger(__name__, type(self))

    def before_worker_boot(self, broker: dramatiq.Broker, worker: Worker) -> None:
        self.check()
        self._stopping = False
        self.heartbeat.join(broker, worker)
        self._work = WorkQueue(lambda: len(self.recorder.held))
        worker.work_queue = self._work  # type: ignore[assignment]
        self.road.start(self._work)
        self.maintenance = self.make_maintenance()
        self.maintenance.start()

    def before_process_message(self, broker: dramatiq.Broker, message: MessageProxy) -> None:
        if self._stopping and isinstance(message, JobMessage):  # a thread had it in hand when the others were returned
            message.end(Outcome.INTERRUPTED)
            raise SkipMessage("the worker is stopping")

    def before_worker_shutdown(self, broker: dramatiq.Broker, worker: Worker) -> None:
        self._stopping = True
        self.heartbeat.announce()
        if self.maintenance is not None:
            self.maintenance.stop()
        self.road.stop()
        self._return_unstarted(worker)
        self._work.close(len(worker.workers))

    def after_worker_shutdown(self, broker: dramatiq.Broker, worker: Worker) -> None:
        if not self.recorder.flush(30.0):
            self.logger.error("The ledger did not take everything in 30 s; the rescuer returns what is missing.")
        self.heartbeat.leave()

    def _return_unstarted(self, worker: Worker) -> None:
        """Claimed jobs no thread has begun: back to the ledger now, not when the slowest job has ended."""
        while True:
            try:
                item = worker.work_queue.get_nowait()
            except Empty:
                return
            message = item.message
            if isinstance(message, JobMessage):
                self.recorder.release(message.claim.id, message.claim.epoch)
                message.settle(message, None)
            worker.work_queue.task_done()

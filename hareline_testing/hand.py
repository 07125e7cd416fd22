"""Runs jobs in the thread that asks for it, as a worker thread would, middleware and all."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any, cast

from dramatiq.asyncio import EventLoopThread, get_event_loop_thread, set_event_loop_thread
from dramatiq.errors import Retry
from dramatiq.worker import WorkerThread

from broker import Broker
from broker.intake import Intake
from broker.local import LocalRoad
from errors import Discard, Snooze
from ledger.records import Claim
from ledger.states import Outcome
from middleware.attempt import JobMessage

#: How an actor says on purpose how its attempt ends.
ON_PURPOSE = (Retry, Snooze, Discard)
#: How many due jobs are made ready at a time.
_BATCH = 1_000


class _Tray:
    """In the place of a queue's intake: what the desk puts on it is run next."""

    def __init__(self, broker: Broker, queue: str) -> None:
        self.queue = queue
        self.message: JobMessage | None = None
        self.raised: BaseException | None = None
        self._broker = broker

    def admit(self, message: JobMessage) -> None:
        self.message = message

    def vacate(self) -> None:
        """There is always room."""

    def post_process_message(self, message: JobMessage) -> None:
        """Dramatiq's word for: the actor has ended."""
        failed = message.ending is not None and message.ending.outcome in (Outcome.FAILED, Outcome.RETRYING)
        if failed and not isinstance(message.exception, ON_PURPOSE):
            self.raised = message.exception
        if not message.submitted:
            self._broker.recorder.forget(message.claim.id, message.claim.epoch)
            message.settle(message, None)

    def task_done(self) -> None:
        """Nobody waits."""


class Hand:
    """A worker of one thread, the caller's.  For one broker there is one at a time."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._session = broker.ledger.session("hareline-testing")
        self._worker = 0

    def prepare(self) -> None:
        """See that there is a ledger: a file gets its schema when it is first used."""
        self._session.next_due_s()

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Registered in the ledger, and with an event loop for async actors."""
        queues = sorted(self._broker.get_declared_queues())
        self._worker = self._session.join(
            host="test", pid=os.getpid(), queues=queues, threads=1, version=version("hareline")
        )
        self._broker.recorder.worker = self._worker
        loop = None
        if get_event_loop_thread() is None:
            loop = EventLoopThread(self._broker.logger)
            loop.start(timeout=10.0)
            set_event_loop_thread(loop)
        try:
            yield
        finally:
            if loop is not None:
                loop.stop()
                set_event_loop_thread(cast(Any, None))
            self._broker.recorder.flush()
            self._session.leave(self._worker)
            self._session.close()

    def run_next(self, queues: Sequence[str]) -> tuple[bool, BaseException | None]:
        """Run one job that is due; whether there was one, and what its actor raised.  Recorded when this returns."""
        self._session.expire(_BATCH)
        while len(self._session.promote(_BATCH, resend_after_s=60.0)) == _BATCH:
            pass
        for queue in queues:
            for claim in self._session.take(self._worker, {queue: 1}):
                return True, self._run(claim)
        return False, None

    def next_due_s(self) -> float | None:
        """Seconds until a job is due, 0 if one is; None when nothing is ahead."""
        return self._session.next_due_s()

    def _run(self, claim: Claim) -> BaseException | None:
        recorder, road = self._broker.recorder, self._broker.road
        assert isinstance(road, LocalRoad), "the plugin made sure of it"
        tray = _Tray(self._broker, claim.queue)
        recorder.took(claim)
        road.desk().admit(claim, claim.body, cast(Intake, tray), done=_nothing)
        if tray.message is not None:
            thread = WorkerThread(
                broker=self._broker,
                consumers=cast(Any, {tray.message.queue_name: tray}),
                work_queue=cast(Any, tray),
                worker_timeout=0,
            )
            thread.process_message(tray.message)
        recorder.flush()
        return tray.raised


def _nothing() -> None:
    """No message to acknowledge."""

"""What a supervised worker process runs: ``dramatiq cli.child:boot``."""

import os
import select
import signal
import threading
from contextlib import suppress

import dramatiq
from dramatiq import Middleware, Worker

import logs
from cli.children import DISMISSED, READY, SUPERVISOR_FD
from settings import load


class Supervised(Middleware):
    """Tells the supervisor when the worker is ready, and ends it in good order when the supervisor has died.

    Its state belongs to the process; it has no options.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def after_worker_boot(self, broker: dramatiq.Broker, worker: Worker) -> None:
        with suppress(BrokenPipeError):  # it has died already; the thread sees that
            os.write(self.fd, READY)
        threading.Thread(target=self._watch, name="hareline-leash", daemon=True).start()

    def dismissed(self) -> None:
        """An operator has asked this worker to stop: none is to take its place."""
        os.write(self.fd, DISMISSED)

    def _watch(self) -> None:
        poll = select.poll()
        poll.register(self.fd, 0)  # only the other end's closing is reported
        poll.poll()
        os.kill(os.getpid(), signal.SIGTERM)


def boot() -> None:
    """Set up logging, then the actors and their broker, as ``dramatiq actors`` would."""
    logs.configure(load())
    from actors import broker

    if fd := os.environ.get(SUPERVISOR_FD):
        supervised = Supervised(int(fd))
        broker.exit.alone = supervised.dismissed
        broker.add_middleware(supervised)

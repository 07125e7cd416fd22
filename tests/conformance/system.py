"""A system in this process: a broker, its actors, and worker threads, on one road and one ledger."""

import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import dramatiq
from dramatiq import Actor, Worker
from dramatiq.asyncio import get_event_loop_thread
from dramatiq.message import Message
from dramatiq.middleware import AsyncIO

from broker import Broker, build
from control import Control
from ledger.queries import Queries
from ledger.states import LIVE, State
from ledger.views import JobView
from settings import Settings

PATIENCE_S = 30.0
#: How many jobs at once; a test need not have actors on both.
QUEUES = {
    name: SimpleNamespace(concurrency=slots, keep=None, rate=None, max_running=None, max_waiting=None)
    for name, slots in (("work", 8), ("narrow", 1))
}


class System:
    """What a conformance test is given.

    Parameters:
      name: which of the systems it is.
      notes: what the actors write down; those of :meth:`another` are the same.
    """

    def __init__(self, name: str, settings: Settings, notes: list[Any] | None = None) -> None:
        self.name = name
        self.settings = settings
        self.notes: list[Any] = [] if notes is None else notes
        self.broker: Broker = build(settings, queues=QUEUES)
        self.control = Control(settings.database_url, "rabbitmq" if settings.broker_url else "embedded")
        dramatiq.set_broker(self.broker)  # a message asks the global one for its result
        self._worker: Worker | None = None
        self._gates: list[threading.Event] = []
        self._others: list[System] = []

    # -- what a program does
    def actor(self, *, queue_name: str = "work", **options: Any) -> Callable[[Callable[..., Any]], Actor[Any, Any]]:
        """Declare an actor, as ``@dramatiq.actor`` does."""
        return dramatiq.actor(broker=self.broker, queue_name=queue_name, **options)

    def work(self) -> None:
        """Start a worker with a thread for each slot of the queues declared so far.  It stops with the test."""
        assert self._worker is None, "it works already; for another worker process: another().work()"
        if get_event_loop_thread() is not None:  # Dramatiq has one for the process, and would not end two
            self.broker.middleware = [x for x in self.broker.middleware if not isinstance(x, AsyncIO)]
        self._worker = Worker(self.broker, worker_timeout=20)
        self._worker.start()

    def rest(self) -> None:
        """Stop the worker, in good order.  Idempotent."""
        if self._worker is not None:
            self._worker.stop()
            self._worker = None

    def another(self, **changes: Any) -> "System":
        """As it were another process of the same system: a broker without actors, on the same ledger and road.

        Parameters:
          changes: of the settings.
        """
        settings = Settings.model_validate({**self.settings.model_dump(), **changes})
        other = System(self.name, settings, self.notes)
        self._others.append(other)
        return other

    # -- for the actors of a test
    def note(self, line: Any) -> None:
        """Write something down in :attr:`notes`."""
        self.notes.append(line)

    def gate(self) -> threading.Event:
        """Something an actor waits for (``gate.wait(30)``); it opens with ``gate.set()``, or when the test ends."""
        gate = threading.Event()
        self._gates.append(gate)
        return gate

    # -- what became of it
    @property
    def queries(self) -> Queries:
        return self.broker.queries

    def job(self, message: Message[Any]) -> JobView:
        """All that is known of a message's job, now."""
        found = self.queries.job(message.message_id)
        assert found is not None, f"no job has the message {message}"
        return found

    def state(self, message: Message[Any]) -> State:
        return self.job(message).state

    def states(self) -> dict[str, int]:
        """How many jobs are in each state, over all queues."""
        total: dict[str, int] = {}
        for states in self.queries.counts().values():
            for state, count in states.items():
                total[str(state)] = total.get(str(state), 0) + count
        return total

    def until(self, what: Callable[[], object], *, timeout_s: float = PATIENCE_S) -> Any:
        """Wait until ``what()`` is true; its value.  The ledger has no signal for a test, so it is asked often."""
        deadline = time.monotonic() + timeout_s
        while not (value := what()):
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {timeout_s} s on {self.name}; {self.states()}, notes {self.notes}")
            time.sleep(0.01)
        return value

    def noted(self, line: Any, *, count: int = 1) -> None:
        """Wait until an actor has noted ``line``, so many times."""
        self.until(lambda: self.notes.count(line) >= count)

    def finished(self, count: int, *, timeout_s: float = PATIENCE_S) -> dict[str, int]:
        """Wait until ``count`` jobs have ended and none is left; the states then."""

        def over() -> dict[str, int] | None:
            states = self.states()
            live = sum(states.get(state, 0) for state in LIVE)
            return states if not live and sum(states.values()) >= count else None

        found: dict[str, int] = self.until(over, timeout_s=timeout_s)
        return found

    def sent(self) -> None:
        """Wait until everything due is where a worker looks for it."""
        assert self.broker.road.flush(PATIENCE_S)
        assert self.broker.recorder.flush(PATIENCE_S)

    # -- the end
    def close(self) -> None:
        """Stop the workers and close all connections; what is left can still be asked for."""
        for gate in self._gates:
            gate.set()
        for other in self._others:
            other.close()
        self.rest()
        self.broker.close()
        self.control.close()

    def left(self) -> list[str]:
        """Jobs that are in a worker's hands."""
        found = [row.id for row in self.queries.jobs(state=State.ACTIVE, archived=False)]
        self.queries.close()
        return found

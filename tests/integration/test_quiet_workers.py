"""Workers that are asked to be quiet, to go on and to stop; how much of each queue they may run changes meanwhile."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import dramatiq
import pytest
from dramatiq import Worker

from broker import Broker, build
from control import Control
from control.limits import change, restore
from control.workers import one, quiet, resume, stop
from errors import IllegalTransition, NotFound
from ledger.orders import Ends, Knob, Mode, Wish, rule_of
from settings import QueueSettings, Settings

pytestmark = pytest.mark.prove

SOON_S = 2.0  #: within which a request takes effect


class Gate(threading.Event):
    """Lets jobs end; counts those that run."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()
        self.running = self.most = self.done = 0

    def __call__(self) -> None:
        with self.lock:
            self.running += 1
            self.most = max(self.most, self.running)
        self.wait(30)
        with self.lock:
            self.running -= 1
            self.done += 1


@pytest.fixture(params=["embedded", "rabbitmq"])
def broker(request: pytest.FixtureRequest, database_url: str) -> Iterator[Broker]:
    url = request.getfixturevalue("rabbitmq_url") if request.param == "rabbitmq" else None
    found = build(Settings(database_url=database_url, broker_url=url, queues={"work": QueueSettings(concurrency=2)}))
    yield found
    found.close()


@pytest.fixture
def control(broker: Broker, database_url: str) -> Iterator[Control]:
    found = Control(database_url, "rabbitmq" if "Amqp" in type(broker.road).__name__ else "embedded")
    yield found
    found.close()


@contextmanager
def working(broker: Broker) -> Iterator[int]:
    """A worker of this process; its number."""
    worker = Worker(broker, worker_timeout=20)
    worker.start()
    try:
        yield broker.recorder.worker
    finally:
        worker.stop()


def until(true: Callable[[], object], timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def gated(broker: Broker) -> tuple[dramatiq.Actor[[], None], Gate]:
    gate = Gate()

    @dramatiq.actor(broker=broker, queue_name="work")
    def act() -> None:
        gate()

    return act, gate


def test_a_quiet_worker_ends_what_it_runs_starts_nothing_and_goes_on_when_it_is_resumed(
    broker: Broker, control: Control
) -> None:
    act, gate = gated(broker)
    with working(broker) as id:
        until(lambda: one(broker.queries, id).mode is Mode.RUNNING)
        broker.enqueue_many([act.message() for _ in range(6)])
        until(lambda: gate.running == 2)
        assert quiet(control, id, by="a test") == [id]
        asked_at = time.monotonic()
        assert quiet(control, id, by="a test") == [], "it was asked already"
        until(lambda: one(broker.queries, id).mode is Mode.QUIET)
        assert time.monotonic() - asked_at < SOON_S
        gate.set()
        until(lambda: not one(broker.queries, id).active and one(broker.queries, id).busy == 0)
        seen = one(broker.queries, id)
        assert (gate.done, seen.state, seen.asked, seen.asked_by, seen.pending) == (
            2,
            "running",
            Wish.QUIET,
            "a test",
            False,
        )
        broker.enqueue_many([act.message() for _ in range(4)])
        until(lambda: one(broker.queries, id).silent_s < 0.5, timeout_s=15)  # a heartbeat and several looks later
        assert gate.done == 2
        assert resume(control, id, by="a test") == [id]
        asked_at = time.monotonic()
        until(lambda: gate.done > 2)
        assert time.monotonic() - asked_at < SOON_S + 1
        until(lambda: gate.done == 10)
        assert gate.most == 2
        assert one(broker.queries, id).mode is Mode.RUNNING


def test_what_a_worker_says_of_itself_is_shown(broker: Broker, control: Control) -> None:
    act, gate = gated(broker)
    with working(broker) as id:
        act.send()
        until(lambda: one(broker.queries, id).active == 1)
        until(lambda: one(broker.queries, id).slots == {"work": 2})
        seen = one(broker.queries, id)
        assert (seen.ends, seen.threads) == (Ends.NOT, 2)
        assert (seen.rss or 0) > 2**20
        [job] = seen.jobs
        assert (job.actor, job.queue, job.epoch) == ("act", "work", 1)
        assert 0 <= job.elapsed_s < 20
        gate.set()


def test_a_worker_in_a_program_of_its_own_that_is_asked_to_stop_is_quiet(broker: Broker, control: Control) -> None:
    gated(broker)
    with working(broker) as id:
        until(lambda: one(broker.queries, id).mode is Mode.RUNNING)
        stop(control, id, by="a test")
        until(lambda: one(broker.queries, id).mode is Mode.QUIET)
        assert one(broker.queries, id).pending, "it has not stopped"
        with pytest.raises(IllegalTransition, match="is stopping"):
            resume(control, id, by="a test")
    with pytest.raises(IllegalTransition, match="is stopped"):
        quiet(control, id, by="a test")
    with pytest.raises(NotFound):
        stop(control, id + 1, by="a test")


def test_the_concurrency_of_a_queue_changes_while_it_runs(broker: Broker, control: Control) -> None:
    act, gate = gated(broker)
    rule = rule_of(Knob.CONCURRENCY, "work")
    with working(broker) as id:
        broker.enqueue_many([act.message() for _ in range(30)])
        until(lambda: gate.running == 2)
        change(control, rule, 5, 0.0, 1, by="a test")
        changed_at = time.monotonic()
        until(lambda: gate.running == 5)
        assert time.monotonic() - changed_at < SOON_S + 1
        until(lambda: one(broker.queries, id).slots == {"work": 5})
        change(control, rule, 1, 0.0, 1, by="a test")
        until(lambda: one(broker.queries, id).slots == {"work": 1})
        gate.most = 0
        assert gate.running == 5, "what runs goes on"
        gate.set()
        until(lambda: gate.done == 30)
        gate.clear()
        broker.enqueue_many([act.message() for _ in range(5)])
        until(lambda: gate.running == 1)
        restore(control, rule, by="a test")
        until(lambda: gate.running == 2)
        until(lambda: one(broker.queries, id).slots == {"work": 2})
        gate.set()
        until(lambda: gate.done == 35)

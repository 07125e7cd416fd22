"""Dramatiq's own Worker.pause() and resume(), on both roads."""

import threading
import time
from collections.abc import Callable, Iterator

import dramatiq
import dramatiq.worker
import pytest
from dramatiq import Worker

from broker import Broker, build
from settings import QueueSettings, Settings


@pytest.fixture(params=["embedded", "rabbitmq"])
def broker(request: pytest.FixtureRequest, sqlite_url: str) -> Iterator[Broker]:
    url = request.getfixturevalue("rabbitmq_url") if request.param == "rabbitmq" else None
    found = build(Settings(database_url=sqlite_url, broker_url=url, queues={"work": QueueSettings(concurrency=2)}))
    yield found
    found.close()


def until(true: Callable[[], bool], timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_paused_worker_resumes_with_the_slots_it_had(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dramatiq.worker, "CONSUMER_RESTART_DELAY_SECS", 0.05)
    lock = threading.Lock()
    running, most, done = 0, 0, 0

    @dramatiq.actor(broker=broker, queue_name="work")
    def count() -> None:
        nonlocal running, most, done
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.05)
        with lock:
            running -= 1
            done += 1

    worker = Worker(broker, worker_timeout=20)
    worker.start()
    try:
        count.send()
        until(lambda: done == 1)
        for thread in worker.workers:
            thread.pause()
        worker.work_queue.wake(len(worker.workers))  # type: ignore[attr-defined]
        for thread in worker.workers:
            thread.paused_event.wait()
        count.send()
        count.send()
        until(lambda: len(broker.recorder.held) == 2)
        worker.pause()
        count.send()
        assert done == 1
        worker.resume()
        until(lambda: done == 4)
        broker.enqueue_many([count.message() for _ in range(30)])
        until(lambda: done == 34)
        assert most == 2, "as many as the queue has slots"
        [intake] = broker.road.intakes.values()
        until(lambda: intake.room == intake.slots)
    finally:
        worker.stop()

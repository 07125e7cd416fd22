"""``max_waiting``: a queue takes so many jobs and no more, until some have ended."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import dramatiq
import pytest

from broker import Broker, build
from broker.room import FULL_S, ROOM_S, Room
from errors import QueueFull
from ledger import open_ledger
from ledger.records import NewJob
from settings import QueueSettings, Settings
from tests.ledger_under_test import LedgerUnderTest, new_job

CATALOGUE = {
    "narrow": SimpleNamespace(concurrency=1, keep=None, rate=None, max_running=None, max_waiting=3),
    "raised": SimpleNamespace(concurrency=1, keep=None, rate=None, max_running=None, max_waiting=3),
    "wide": SimpleNamespace(concurrency=1, keep=None, rate=None, max_running=None, max_waiting=None),
}


@pytest.fixture
def broker(database_url: str) -> Iterator[Broker]:
    settings = Settings(database_url=database_url, queues={"raised": QueueSettings(max_waiting=5)})
    found = build(settings, queues=CATALOGUE)
    yield found
    found.close()


def actor(broker: Broker, queue: str) -> Any:
    def act(n: int = 0) -> None: ...

    return dramatiq.actor(broker=broker, queue_name=queue, actor_name=f"act_{queue}")(act)


def until_taken(send: Any) -> None:
    """Until the process looks again, which is soon: it believes that a queue is full for 20 ms."""
    patience = threading.Event()
    for _ in range(500):
        try:
            send()
        except QueueFull:
            patience.wait(FULL_S)
        else:
            return
    raise AssertionError("it never had room again")


def test_a_send_beyond_the_limit_is_refused_by_name_until_there_is_room(broker: Broker) -> None:
    act, raised = actor(broker, "narrow"), actor(broker, "raised")
    for _ in range(3):
        act.send()
    with pytest.raises(
        QueueFull, match=r"queue 'narrow' is full: its max_waiting is 3, .*queues set narrow --max-waiting 6"
    ):
        act.send()
    broker.enqueue_many([raised.message() for _ in range(5)])
    with pytest.raises(QueueFull, match="'raised' is full: its max_waiting is 5"):
        raised.send()
    assert sum(sum(states.values()) for states in broker.queries.counts().values()) == 8
    broker.flush("narrow")
    until_taken(act.send)


def test_a_batch_that_does_not_fit_is_refused_as_a_whole(broker: Broker) -> None:
    act = actor(broker, "narrow")
    act.send()
    with pytest.raises(QueueFull, match="room for 2 and 3 were sent"):
        broker.enqueue_many([act.message() for _ in range(3)])
    broker.enqueue_many([act.message() for _ in range(2)])
    with pytest.raises(QueueFull):
        broker.enqueue_tick(act.message(), ("often", datetime(2030, 1, 1, tzinfo=UTC)))


def test_what_is_delayed_or_commits_with_a_finish_or_goes_elsewhere_is_not_refused(broker: Broker) -> None:
    act, wide = actor(broker, "narrow"), actor(broker, "wide")
    held: list[NewJob] = []
    for _ in range(3):
        act.send()
    for _ in range(4):
        act.send_with_options(delay=60_000)
        wide.send()
        with broker.holding(held):
            act.send()
    assert [job.counted for job in held] == [True] * 4
    session = broker.ledger.session("test")
    assert session.backlog("narrow", 10) == 3
    session.close()


def test_threads_of_one_process_do_not_exceed_it(broker: Broker) -> None:
    act = actor(broker, "raised")
    taken: list[int] = []
    gate = threading.Barrier(8)

    def send(n: int) -> None:
        gate.wait()
        for _ in range(5):
            try:
                act.send(n)
                taken.append(n)
            except QueueFull:
                continue

    threads = [threading.Thread(target=send, args=[n]) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(taken) == 5, "what is being recorded has its room, whoever counts meanwhile"


def test_another_process_is_noticed_within_a_quarter_of_a_second(database_url: str) -> None:
    ledger = LedgerUnderTest(database_url, "embedded")
    room = Room(open_ledger(database_url, road="embedded"), {"q": 100})
    with room.taken([new_job(counted=True)]):
        pass
    for _ in range(100):
        ledger.enqueue(counted=True)
    patience = threading.Event()
    for _ in range(100):  # the one look is good for 99 sends, but not for long
        try:
            with room.taken([new_job(counted=True)]):
                pass
        except QueueFull:
            break
        patience.wait(ROOM_S / 5)
    else:
        raise AssertionError("never noticed")
    room.close()
    ledger.close()

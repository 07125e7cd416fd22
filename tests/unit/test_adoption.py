"""The thread that adopts foreign messages."""

import functools
import threading
from pathlib import Path
from typing import Any

import dramatiq
import pytest

from broker import build
from broker.adoption import Adoption, Foreign, Received, adopt
from broker.making import received
from ledger import open_ledger
from ledger.ledger import Session
from ledger.outbox import AsyncOutbox, Outbox
from ledger.records import Buried, NewJob
from settings import Settings


class Counted:
    """A ledger that notes which sessions were opened."""

    def __init__(self, path: Path) -> None:
        self.real = open_ledger(f"sqlite:///{path}", road="rabbitmq")
        self.url = self.real.url
        self.opened: list[str] = []

    def check(self) -> None:
        self.real.check()

    def outbox(self, connection: object) -> Outbox | AsyncOutbox:
        return self.real.outbox(connection)

    def session(self, name: str) -> Session:
        self.opened.append(name)
        return self.real.session(name)


def foreign(settled: list[Buried | None], done: threading.Semaphore) -> Foreign:
    def note(letter: Buried | None) -> None:
        settled.append(letter)
        done.release()

    def adopted(job: NewJob) -> None:
        raise AssertionError("these bytes are no message")

    return Foreign("work", None, b"no message", 3, adopted, note)


def test_threads_that_find_foreign_messages_at_once_share_one_lane_and_one_that_was_stopped_is_made_anew(
    tmp_path: Path,
) -> None:
    ledger = Counted(tmp_path / "h.db")
    settled: list[Buried | None] = []
    done = threading.Semaphore(0)
    adoption = Adoption(ledger, lambda message, user: Received(message))
    start = threading.Barrier(8)

    def put() -> None:
        start.wait(10)
        adoption.put(foreign(settled, done))

    for lanes in (1, 2):
        threads = [threading.Thread(target=put) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for _ in range(8):
            assert done.acquire(timeout=20)
        adoption.stop()
        assert len(ledger.opened) == lanes
    assert len(settled) == 16


@pytest.mark.parametrize(
    ("options", "expires_ms"),
    [
        ({}, 2_000),
        ({"expires": 500}, 500),
        ({"max_age": 700.5}, 700),
        ({"expires": None}, None),
        ({"expires": "x"}, None),
    ],
)
def test_an_adopted_job_expires_as_one_of_ours(tmp_path: Path, options: dict[str, Any], expires_ms: int | None) -> None:
    broker = build(Settings(database_url=f"sqlite:///{tmp_path / 'h.db'}", max_age_ms=9_000))

    @dramatiq.actor(broker=broker, expires=2_000)
    def remind() -> None: ...

    @dramatiq.actor(broker=broker)
    def other() -> None: ...

    def adopted(body: bytes) -> int | None:
        foreign = Foreign("work", None, body, 3, lambda job: None, lambda letter: None)
        return adopt(foreign, functools.partial(received, broker)).expires_ms

    assert adopted(remind.message_with_options(**options).encode()) == expires_ms
    assert adopted(other.message().encode()) == 9_000

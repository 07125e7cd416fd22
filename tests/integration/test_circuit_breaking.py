"""Workers and operators with one circuit, on both databases."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import dramatiq
import pytest
from dramatiq import Worker
from dramatiq.middleware import AsyncIO
from sqlalchemy import select

from broker import Broker, build
from control.circuits import close, hold_open, listing
from control.transaction import Control
from errors import Discard, Failure, RateLimited, Snooze
from ledger.engine import Database
from ledger.tables import circuits, journal
from middleware.circuit import Circuit
from middleware.circuits import Circuits
from settings import Settings

UPSTREAM = Circuit("upstream", of=3, open_for=30, counts=ConnectionError)
WITHIN = {"upstream": UPSTREAM.rule.within}


class Process:
    """A broker with its worker and its actor, as a process of its own has them."""

    def __init__(self, url: str) -> None:
        self.ran: list[str] = []
        self.broker: Broker = build(Settings(database_url=url))
        # Its event loop is one for a whole process, and here are several workers in one.
        self.broker.middleware = [one for one in self.broker.middleware if not isinstance(one, AsyncIO)]

        @dramatiq.actor(broker=self.broker, circuit=UPSTREAM, max_retries=0)
        def call(how: str) -> Any:
            self.ran.append(how)
            match how:
                case "down":
                    raise ConnectionError("nobody answers")
                case "discard":
                    raise Discard
                case "snooze":
                    raise Snooze(3_600_000)
                case "limited":
                    raise RateLimited(3_600_000)
                case "bug":
                    raise ValueError("not the other side's fault")
                case "failure":
                    return Failure("no such customer")
            return None

        self.call = call

    @property
    def is_open(self) -> bool:
        """As this process knows it."""
        [middleware] = [middleware for middleware in self.broker.middleware if isinstance(middleware, Circuits)]
        return middleware._views["upstream"].standing.open_s is not None

    @contextmanager
    def working(self) -> Iterator["Process"]:
        worker = Worker(self.broker, worker_timeout=20)
        worker.start()
        try:
            yield self
        finally:
            worker.stop()
            self.broker.close()


def until(true: Callable[[], object], timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def operator(database_url: str) -> Iterator[Control]:
    found = Control(database_url, "embedded")
    yield found
    found.close()


def test_a_closed_circuit_takes_no_statement_per_job_and_counts_all_the_same(database_url: str) -> None:
    with Process(database_url).working() as process:
        process.broker.enqueue_many([process.call.message("up") for _ in range(100)])
        until(lambda: len(process.ran) == 100)
        assert "hareline-circuits" not in {thread.name for thread in threading.enumerate()}
        until(lambda: [view.calls for view in listing(process.broker.queries, WITHIN)] == [100])


def test_only_what_it_counts_opens_it_and_then_nothing_starts(database_url: str) -> None:
    with Process(database_url).working() as process:
        others = ["discard", "snooze", "limited", "bug", "failure"]
        process.broker.enqueue_many([process.call.message(how) for how in others * 4])
        until(lambda: len(process.ran) == 20)
        assert not process.is_open
        for n in range(3):
            process.call.send("down")
            until(lambda n=n: len(process.ran) == 21 + n)  # type: ignore[misc]
        until(lambda: process.is_open)
        last = process.call.send("up")

        def parked() -> bool:
            job = process.broker.queries.job(last.message_id)
            return job is not None and job.state == "delayed"

        until(parked)
        job = process.broker.queries.job(last.message_id)
        assert job is not None
        assert (job.attempts_spent, [attempt.outcome for attempt in job.attempts]) == (0, ["parked"])
        assert "up" not in process.ran
        [view] = listing(process.broker.queries, WITHIN)
        assert (view.state, view.openings, view.put_off) == ("open", 1, 1)
        assert view.why == "3 of 3 calls failed within 60 s, the last with ConnectionError"


def test_every_process_hears_of_an_opening_within_a_second_and_a_new_one_before_its_first_job(
    database_url: str,
) -> None:
    with ExitStack() as stack:
        idle = stack.enter_context(Process(database_url).working())
        calling = stack.enter_context(Process(database_url).working())
        sent = [calling.call.send("down") for _ in range(3)]
        until(lambda: listing(calling.broker.queries, WITHIN) and listing(calling.broker.queries, WITHIN)[0].openings)
        opened = time.monotonic()
        until(lambda: idle.is_open and calling.is_open)  # either may have had the calls
        assert time.monotonic() - opened < 2, "a second, and what this machine takes"
        ran = len(idle.ran) + len(calling.ran)
        assert ran == len(sent)
        idle.broker.enqueue_many([idle.call.message("up") for _ in range(20)])
        late = stack.enter_context(Process(database_url).working())
        assert late.is_open
        until(lambda: listing(late.broker.queries, WITHIN)[0].put_off == 20, 20)
        assert len(idle.ran) + len(calling.ran) + len(late.ran) == ran


def test_operators_open_and_close_it_and_are_in_the_journal(database_url: str, operator: Control) -> None:
    hold_open(operator, "upstream", 3600, by="ada")
    with Process(database_url).working() as process:
        process.broker.enqueue_many([process.call.message("up") for _ in range(20)])
        until(lambda: listing(process.broker.queries, WITHIN)[0].put_off == 20)
        [view] = listing(process.broker.queries, WITHIN)
        assert (view.state, view.why, view.by) == ("open", "an operator opened it", "ada")
        assert view.open_s == pytest.approx(3600, abs=30)
        assert process.ran == []
        assert close(operator, "upstream", by="bob")
        assert not close(operator, "upstream", by="bob")
        until(lambda: len(process.ran) == 20, 15)
    database = Database(database_url)
    with database.read() as connection:
        lines = connection.execute(select(journal.c.event, journal.c.actor, journal.c.detail).order_by(journal.c.id))
        noted = [(event, actor, json.loads(detail)["circuit"]) for event, actor, detail in lines if "circuit" in event]
        assert connection.execute(select(circuits.c.term)).scalar_one() == 2
    database.close()
    assert noted == [
        ("circuit opened", "ada", "upstream"),
        ("circuit closed", "bob", "upstream"),
    ]

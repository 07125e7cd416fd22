"""A middleware that breaks before the body: past one that fails closed nothing runs, past another everything."""

from collections.abc import Iterator

import dramatiq
import pytest
from dramatiq import Middleware, Worker
from dramatiq.broker import MessageProxy

from broker import Broker, build
from ledger.states import Outcome, Reason, State
from settings import Settings


class Breaks(Middleware):
    fails_closed = False

    def before_process_message(self, broker: dramatiq.Broker, message: MessageProxy) -> None:
        raise KeyError("of its own")


class BreaksClosed(Breaks):
    fails_closed = True


@pytest.fixture
def broker(database_url: str) -> Iterator[Broker]:
    found = build(Settings(database_url=database_url))
    yield found
    found.close()


def ran(broker: Broker, middleware: Middleware) -> tuple[list[str], State, Reason | None, list[Outcome]]:
    bodies: list[str] = []

    @dramatiq.actor(broker=broker)
    def body() -> None:
        bodies.append("ran")

    broker.add_middleware(middleware)
    sent = body.send()
    worker = Worker(broker, worker_timeout=20)
    worker.start()
    try:
        broker.join("default", timeout=20_000)
    finally:
        worker.stop()
    job = broker.queries.job(sent.message_id)
    assert job is not None
    return bodies, job.state, job.reason, [attempt.outcome for attempt in job.attempts]


def test_past_one_that_fails_closed_no_body_runs(broker: Broker) -> None:
    assert ran(broker, BreaksClosed()) == ([], State.FAILED, Reason.REFUSED, [Outcome.FAILED])


def test_past_any_other_it_runs_as_with_dramatiq(broker: Broker) -> None:
    assert ran(broker, Breaks()) == (["ran"], State.COMPLETED, None, [Outcome.COMPLETED])

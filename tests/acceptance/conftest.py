"""The whole system on each road."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.rabbit import Rabbit
from tests.acceptance.system import System, system
from tests.servers import RabbitMQ

ROADS = ("embedded-sqlite", "embedded-postgresql", "rabbitmq-postgresql")
_EVERYWHERE = os.environ.get("HARELINE_TEST_ROADS") == "all"  # so ``make prove`` has it
#: In one process the ledger's tests and the conformance suite have all three; of tests with processes, the mixture is
#: left to ``make prove``.
SPINE_ROADS = ROADS if _EVERYWHERE else (ROADS[0], ROADS[-1])
#: Policies with processes that are killed.
POLICY_ROADS = ROADS if _EVERYWHERE else ROADS[-1:]


def database(request: pytest.FixtureRequest, road: str) -> str:
    url = request.getfixturevalue("sqlite_url" if road == "embedded-sqlite" else "postgres_url")
    assert isinstance(url, str)
    return url


def carrier(request: pytest.FixtureRequest, road: str) -> str | None:
    if road != "rabbitmq-postgresql":
        return None
    url = request.getfixturevalue("rabbitmq_url")
    assert isinstance(url, str)
    return url


@pytest.fixture(params=SPINE_ROADS)
def anywhere(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[System]:
    """The test runs on both roads, and with HARELINE_TEST_ROADS=all on the embedded one over PostgreSQL too."""
    with system(tmp_path, database(request, request.param), carrier(request, request.param)) as found:
        yield found


@pytest.fixture(params=POLICY_ROADS)
def somewhere(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[System]:
    """The test of a policy runs on RabbitMQ and PostgreSQL, and with HARELINE_TEST_ROADS=all on every road."""
    with system(tmp_path, database(request, request.param), carrier(request, request.param)) as found:
        yield found


@pytest.fixture
def on_rabbitmq(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[System]:
    """RabbitMQ and PostgreSQL."""
    road = "rabbitmq-postgresql"
    with system(tmp_path, database(request, road), carrier(request, road)) as found:
        yield found


@pytest.fixture
def rabbit(rabbitmq: RabbitMQ, on_rabbitmq: System) -> Rabbit:
    """The RabbitMQ under ``on_rabbitmq``, from the outside."""
    assert on_rabbitmq.broker_url is not None
    return Rabbit(rabbitmq, on_rabbitmq.broker_url)


@pytest.fixture
def unhurried(on_rabbitmq: System) -> System:
    """``on_rabbitmq`` with a lease no test outlasts: a busy machine must not look like a dead worker."""
    on_rabbitmq.env["WORKER_QUEUE_STALLED_INTERVAL"] = "20000"
    return on_rabbitmq

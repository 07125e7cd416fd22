"""The fixture ``system``, once for each system."""

import os
from collections.abc import Iterator

import pytest

from settings import Settings
from tests.conformance.system import System
from tests.servers import RabbitMQ
from tests.servers.unpack import unpacked

SYSTEMS = ("embedded-sqlite", "embedded-postgresql", "classic-postgresql", "quorum-postgresql")
#: In ``make test``; the others are for ``make prove``.
USUAL = SYSTEMS if os.environ.get("HARELINE_TEST_ROADS") == "all" else ("embedded-sqlite", "classic-postgresql")
QUORUM = "4.3"  #: the first RabbitMQ whose quorum queues have strict priorities


@pytest.fixture(scope="session")
def _rabbitmq_of_quorum_queues(request: pytest.FixtureRequest) -> Iterator[RabbitMQ]:
    """A server of its own, unless the session's is the one."""
    if os.environ.get("HARELINE_TEST_RABBITMQ") == QUORUM:
        yield request.getfixturevalue("rabbitmq")
        return
    root = unpacked(QUORUM)
    if root is None:
        pytest.skip(
            f"RabbitMQ {QUORUM} is not unpacked: HARELINE_TEST_RABBITMQ={QUORUM} does it, and so does make prove"
        )
    server = RabbitMQ(root=root)
    server.start()
    yield server
    server.remove()


@pytest.fixture(params=USUAL)
def system(request: pytest.FixtureRequest) -> Iterator[System]:
    """The test runs on every system, on two of them in ``make test``."""
    road, database = request.param.split("-")
    found = request.getfixturevalue("sqlite_url" if database == "sqlite" else "postgres_url")
    broker_url = None
    if road != "embedded":
        server: RabbitMQ = request.getfixturevalue("rabbitmq" if road == "classic" else "_rabbitmq_of_quorum_queues")
        server.start()
        broker_url = server.new_vhost()
    settings = Settings(
        database_url=found,
        broker_url=broker_url,
        queue_type=road if road != "embedded" else "auto",
        publish_after_s=1,
        resend_after_s=2,
        shutdown_grace_s=2,
        cancel_grace_s=30,
        keep_completed=1_000_000,
        keep_failed=1_000_000,
    )
    made = System(request.param, settings)
    try:
        yield made
    finally:
        made.close()
        if broker_url is not None:
            server.delete_vhost(broker_url)
    assert made.left() == [], "jobs in the hands of workers that have stopped"

"""The topology as data, and the file RabbitMQ imports.

python -m tests.unit.test_rabbitmq_topology > rabbitmq/definitions.json
"""

import json
import re
from pathlib import Path

import pytest

from actors.queues import CATALOGUE
from rabbitmq.topology import Queue, choose_type, definitions, topology

RABBITMQ = Path(__file__).parents[2] / "rabbitmq"
COMPOSE = RABBITMQ.parent / "docker-compose.yml"

SHIPPED_SERVER = (4, 3)
SHIPPED_QUEUES = (*CATALOGUE, "default")  # Dramatiq's name for the queue of actors that name none


def shipped() -> str:
    queue_type = choose_type("auto", SHIPPED_SERVER)
    return json.dumps(definitions(SHIPPED_QUEUES, queue_type=queue_type, server=SHIPPED_SERVER), indent=2) + "\n"


def test_the_shipped_definitions_are_the_topology() -> None:
    assert (RABBITMQ / "definitions.json").read_text() == shipped(), f"run: {__doc__}"


@pytest.mark.skipif(not COMPOSE.exists(), reason="no docker-compose.yml here")
def test_the_shipped_definitions_are_for_the_shipped_server() -> None:
    image = re.search(r"image: *rabbitmq:(\d+)\.(\d+)", COMPOSE.read_text())
    assert image is not None, "docker-compose.yml names no rabbitmq:MAJOR.MINOR image"
    assert (int(image[1]), int(image[2])) == SHIPPED_SERVER


@pytest.mark.parametrize(
    ("setting", "server", "chosen"),
    [
        ("auto", (3, 10), "classic"),
        ("auto", (4, 2), "classic"),
        ("auto", (4, 3), "quorum"),
        ("auto", (5, 0), "quorum"),
        ("classic", (4, 3), "classic"),
        ("quorum", (3, 10), "quorum"),
    ],
)
def test_auto_means_quorum_where_quorum_queues_have_strict_priorities(setting, server, chosen) -> None:  # type: ignore[no-untyped-def]
    assert choose_type(setting, server) == chosen


def test_a_classic_queue_has_five_priorities_and_its_dead_letters_none() -> None:
    assert topology(["email"], queue_type="classic", server=(3, 10)) == [
        Queue("email", {"x-queue-type": "classic", "x-max-priority": 5}),
        Queue("email.XQ", {"x-queue-type": "classic"}),
    ]


def test_a_quorum_queue_never_drops_what_was_returned_often() -> None:
    for server, limit in (((3, 10), {}), ((4, 0), {"x-delivery-limit": -1}), ((4, 3), {"x-delivery-limit": -1})):
        for queue in topology(["email"], queue_type="quorum", server=server):
            assert queue.arguments == {"x-queue-type": "quorum", **limit}


def test_nothing_in_any_queue_expires() -> None:
    forbidden = {"x-expires", "x-message-ttl", "x-dead-letter-exchange", "x-max-length", "x-overflow"}
    for server in ((3, 10), (4, 0), (4, 3)):
        for queue_type in ("classic", "quorum"):
            for queue in topology(["email"], queue_type=queue_type, server=server):
                assert not forbidden & set(queue.arguments)


def test_nobody_may_declare_and_nobody_can_log_in_without_a_password() -> None:
    data = definitions(["a", "b.c"], queue_type="quorum", server=(4, 3))
    assert all(permission["configure"] == "^$" for permission in data["permissions"])
    assert all(user["password_hash"] == "" for user in data["users"])
    assert all("administrator" not in user["tags"] for user in data["users"])


def test_the_workers_permission_covers_its_queues_and_no_others() -> None:
    data = definitions(["a", "b.c"], queue_type="quorum", server=(4, 3))
    (worker,) = [permission for permission in data["permissions"] if permission["user"] == "worker"]
    allowed = re.compile(worker["read"])
    assert all(allowed.search(name) for name in ("a", "a.XQ", "b.c", "b.c.XQ"))
    assert not any(allowed.search(name) for name in ("", "bxc", "aa", "a.XQ2", "c"))


if __name__ == "__main__":
    print(shipped(), end="")

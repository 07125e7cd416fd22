"""Which queues there are and with which arguments: pure data, and the users that may touch them.

``definitions.json`` is :func:`definitions` for the server that docker-compose.yml starts, and
``tests/unit/test_rabbitmq_topology.py`` keeps it so (and writes it anew).
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

QueueType = Literal["classic", "quorum"]

#: A job's priority 1 (critical) … 5 (background) travels as 5 … 1; RabbitMQ serves the higher first.
PRIORITIES = 5

#: Appended to a work queue's name for the queue of its dead letters.
DEAD_LETTERS = ".XQ"


@dataclass(frozen=True)
class Queue:
    """A durable queue and the arguments it is declared with."""

    name: str
    arguments: dict[str, Any]


def choose_type(setting: Literal["auto", "classic", "quorum"], server: tuple[int, int]) -> QueueType:
    """The queue type for a server, given as (major, minor).

    ``auto`` is quorum from 4.3 on, because only there quorum queues have strict priorities.
    """
    if setting == "auto":
        return "quorum" if server >= (4, 3) else "classic"
    return setting


def topology(queues: Iterable[str], *, queue_type: QueueType, server: tuple[int, int]) -> list[Queue]:
    """Each work queue and its dead-letter queue.

    Nothing expires (a dead letter stays until a person or a stated policy removes it), nothing dead-letters
    in RabbitMQ (the ledger does), and there is no alternate exchange (it disables mandatory returns).
    """
    found = []
    for name in queues:
        found.append(Queue(name, _arguments(queue_type, server, prioritised=True)))
        found.append(Queue(name + DEAD_LETTERS, _arguments(queue_type, server, prioritised=False)))
    return found


def _arguments(queue_type: QueueType, server: tuple[int, int], *, prioritised: bool) -> dict[str, Any]:
    arguments: dict[str, Any] = {"x-queue-type": queue_type}
    if queue_type == "classic" and prioritised:
        arguments["x-max-priority"] = PRIORITIES
    if queue_type == "quorum" and server >= (4, 0):
        # The default of 4.x drops a message at its 20th return; the ledger counts crashes, and drops nothing.
        arguments["x-delivery-limit"] = -1
    return arguments


def definitions(queues: Iterable[str], *, queue_type: QueueType, server: tuple[int, int]) -> dict[str, Any]:
    """What RabbitMQ imports at boot (``load_definitions``): the virtual host ``/``, the queues, three users.

    The users' password hashes are empty, and a user with an empty hash cannot log in.  ``entrypoint.sh``
    fills them in from the environment; without it: ``rabbitmqctl change_password USER PASSWORD``.

    producer    publishes, and nothing else
    worker      consumes the queues, publishes (dead letters to ``.XQ``), declares nothing
    operator    sees everything in the management UI, reads and purges ``.XQ``
    """
    names = sorted(queues)
    either = "|".join(re.escape(name) for name in names)
    own = f"^({either})({re.escape(DEAD_LETTERS)})?$"
    dead = f"^({either}){re.escape(DEAD_LETTERS)}$"
    return {
        "users": [_user("producer"), _user("worker"), _user("operator", "monitoring")],
        "vhosts": [{"name": "/"}],
        "permissions": [
            _permission("producer", write=_DEFAULT_EXCHANGE),
            _permission("worker", write=_DEFAULT_EXCHANGE, read=own),
            _permission("operator", read=dead),
        ],
        "queues": [
            {"name": queue.name, "vhost": "/", "durable": True, "auto_delete": False, "arguments": queue.arguments}
            for queue in topology(names, queue_type=queue_type, server=server)
        ],
    }


#: RabbitMQ checks the default exchange under the name amq.default; it delivers straight to the queue named by the key.
_DEFAULT_EXCHANGE = r"^(amq\.default)?$"


def _user(name: str, *tags: str) -> dict[str, Any]:
    return {
        "name": name,
        "password_hash": "",
        "hashing_algorithm": "rabbit_password_hashing_sha256",
        "tags": list(tags),
    }


def _permission(user: str, *, write: str = "^$", read: str = "^$") -> dict[str, Any]:
    return {"user": user, "vhost": "/", "configure": "^$", "write": write, "read": read}

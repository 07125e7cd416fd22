"""How each system is started and fed.  Durable and confirmed, one worker process of sixteen threads, each."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

THREADS = 16


@dataclass(frozen=True)
class Contestant:
    """One system: its module (``noop``, ``nap``, ``send``, ``bulk``) and its worker's command."""

    name: str
    module: str
    worker: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)


HARELINE = Contestant(
    "hareline", "benchmarks.on_hareline", (sys.executable, "-m", "dramatiq", "benchmarks.on_hareline", "-p", "1")
)
DRAMATIQ = Contestant(
    "dramatiq",
    "benchmarks.on_dramatiq",
    (sys.executable, "-m", "dramatiq", "benchmarks.on_dramatiq", "-p", "1", "-t", str(THREADS)),
)
CELERY = Contestant(
    "celery",
    "benchmarks.on_celery",
    (
        *(sys.executable, "-m", "celery", "-A", "benchmarks.on_celery", "worker"),
        *("-P", "threads", "-c", str(THREADS), "-l", "WARNING", "--without-gossip", "--without-mingle"),
    ),
)
POLICIES = Contestant(
    "policies", "benchmarks.on_policies", (sys.executable, "-m", "dramatiq", "benchmarks.on_policies", "-p", "1")
)
ALL = (HARELINE, DRAMATIQ, CELERY)


def urls() -> tuple[str, str]:
    """(RabbitMQ, PostgreSQL) of this run."""
    return os.environ["BROKER_URL"], os.environ["DATABASE_URL"]

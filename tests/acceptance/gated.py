"""Actors that share something; ``dramatiq tests.acceptance.gated`` runs them."""

import time
from pathlib import Path

import dramatiq

from middleware.concurrency import Concurrency
from middleware.sequence import Sequence
from tests.acceptance.app import broker, note

__all__ = ["broker", "keep", "later", "post", "share"]


@dramatiq.actor(queue_name="work", concurrency=Concurrency(3))
def share(path: str, name: str) -> None:
    note(path, name)
    time.sleep(0.05)


@dramatiq.actor(queue_name="work", concurrency=Concurrency(3), time_limit=float("inf"))
def keep(path: str, name: str, release: str) -> None:
    note(path, name)
    while not Path(release).exists():
        time.sleep(0.01)


@dramatiq.actor(queue_name="work", sequence=Sequence("account", name="accounts"), min_backoff=50)
def post(path: str, account: str, number: int) -> None:
    """Every fifth one fails once."""
    failed = Path(f"{path}.{account}.{number}")
    if number % 5 == 0 and not failed.exists():
        failed.touch()
        raise RuntimeError("not yet")
    note(path, f"{account} {number}")


@dramatiq.actor(queue_name="other", sequence=Sequence("to", name="accounts"))
def later(path: str, number: int, to: str) -> None:
    note(path, f"{to} {number}")

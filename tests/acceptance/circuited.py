"""Actors behind a circuit breaker; ``dramatiq tests.acceptance.circuited`` runs them."""

import os
import time
from pathlib import Path

import dramatiq

from middleware.circuit import Circuit
from tests.acceptance.app import broker, note

__all__ = ["OF", "broker", "call"]

OF = 10

UPSTREAM = Circuit("upstream", of=OF, open_for=0.5, longest=1.5, counts=ConnectionError)


@dramatiq.actor(queue_name="work", circuit=UPSTREAM, max_retries=100, min_backoff=50, backoff="fixed")
def call(path: str, line: object) -> None:
    """Something is called that is up when the file ``up`` is there; with ``hang`` it does not answer."""
    folder = Path(path).parent
    if (folder / "hang").exists():
        note(path, f"hangs in {os.getppid()}")
        time.sleep(600)
    if not (folder / "up").exists():
        note(path, f"failed {line}")
        raise ConnectionError("nobody answers")
    note(path, f"done {line}")

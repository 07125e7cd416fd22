"""Actors with rate limits; ``dramatiq tests.acceptance.limited`` runs them."""

import dramatiq

from middleware.rates import Rate
from tests.acceptance.app import broker, note

__all__ = ["broker", "fifty", "once_more", "tick"]


@dramatiq.actor(queue_name="work", rate_limit=Rate(20))
def tick(path: str, name: str) -> None:
    note(path, name)


@dramatiq.actor(queue_name="work", rate_limit=Rate(1, per=2))
def once_more(path: str, name: str) -> None:
    note(path, name)


@dramatiq.actor(queue_name="work", rate_limit=Rate(50, burst=10))
def fifty(path: str, name: str) -> None:
    note(path, name)

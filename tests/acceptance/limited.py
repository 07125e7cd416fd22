"""Actors with rate limits; ``dramatiq tests.acceptance.limited`` runs them."""

import dramatiq

from errors import RateLimited
from middleware.rates import Rate
from tests.acceptance.app import broker, note

__all__ = ["broker", "call", "fifty", "mail", "once_more", "tick"]


@dramatiq.actor(queue_name="work", rate_limit=Rate(20))
def tick(path: str, name: str) -> None:
    note(path, name)


@dramatiq.actor(queue_name="work", rate_limit=[Rate(40), Rate(4, key="user", burst=2)])
def mail(path: str, user: str, number: int) -> None:
    note(path, f"{user} {number}")


@dramatiq.actor(queue_name="work", rate_limit=Rate(100))
def call(path: str, name: str) -> None:
    if name == "429":
        raise RateLimited(retry_after=2000)
    note(path, name)


@dramatiq.actor(queue_name="work", rate_limit=Rate(1, per=2))
def once_more(path: str, name: str) -> None:
    note(path, name)


@dramatiq.actor(queue_name="work", rate_limit=Rate(50))
def fifty(path: str, name: str) -> None:
    note(path, name)

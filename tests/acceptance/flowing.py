"""Workflows; ``dramatiq tests.acceptance.flowing`` runs them."""

import time

import dramatiq

from middleware.workflow import Results, step, wait, workflow
from tests.acceptance.app import broker, note

__all__ = ["approval", "broker", "counting", "order", "pair", "stubborn"]


@dramatiq.actor(queue_name="work")
def count_to(items: int) -> list[int]:
    return list(range(items))


@dramatiq.actor(queue_name="work")
def square(number: int, path: str) -> int:
    note(path, number)
    return number * number


@dramatiq.actor(queue_name="other")
def total(square: Results, path: str) -> int:
    note(path, f"joined {len(square)}")
    return sum(square)


counting = workflow("counting").then(count_to).then(step(square, each="count_to")).then(total)


@dramatiq.actor(queue_name="work")
def reserve(path: str, order: int) -> str:
    note(path, f"reserve {order}")
    return f"shelf-{order}"


@dramatiq.actor(queue_name="work")
def release(path: str, reserve: str) -> None:
    note(path, f"release {reserve}")


@dramatiq.actor(queue_name="work")
def charge(path: str, order: int) -> str:
    note(path, f"charge {order}")
    return f"payment-{order}"


@dramatiq.actor(queue_name="work")
def refund(path: str, charge: str) -> None:
    note(path, f"refund {charge}")


@dramatiq.actor(queue_name="work", max_retries=0)
def ship(path: str, reserve: str, charge: str) -> None:
    note(path, f"ship {reserve}")
    raise RuntimeError("no van")


order = workflow("order").then(step(reserve, compensate=release)).then(step(charge, compensate=refund)).then(ship)


@dramatiq.actor(queue_name="work")
def ask(path: str) -> None:
    note(path, "ask")


@dramatiq.actor(queue_name="work")
def act(path: str, approved: str) -> str:
    note(path, f"approved by {approved}")
    return approved


approval = workflow("approval").then(ask).then(wait("approved", timeout="1h")).then(act)
pair = workflow("pair").then(reserve).then(step(release, takes={"reserve": "reserve"}))


@dramatiq.actor(queue_name="work", time_limit=float("inf"))
def stay(number: int, path: str) -> None:
    """Runs until it is interrupted."""
    note(path, f"start {number}")
    while True:
        time.sleep(0.02)


stubborn = workflow("stubborn").then(step(stay, each="numbers")).then(ask)

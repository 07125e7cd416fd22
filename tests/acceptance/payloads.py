"""Actors that say what they take; ``dramatiq tests.acceptance.payloads`` runs them."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any

import dramatiq
from dramatiq.middleware import CurrentMessage
from pydantic import AliasChoices, BaseModel, Field

from tests.acceptance.app import broker, note

__all__ = [
    "Decimal",
    "Line",
    "Order",
    "broker",
    "charge",
    "datetime",
    "fail_in_vain",
    "half",
    "take",
    "take_later",
    "tell",
]


class Line(BaseModel):
    sku: str
    price: Decimal


class Order(BaseModel):
    number: Annotated[int, Field(validation_alias=AliasChoices("number", "id"))]
    lines: list[Line]


@dramatiq.actor(queue_name="work", max_retries=5, min_backoff=50)
def take(path: str, order: Order, at: datetime, *more: Decimal) -> None:
    message: Any = CurrentMessage.get_current_message()
    note(path, f"{order!r} {at.year} {more!r}, attempt {message.claim.attempts}")


@dramatiq.actor(queue_name="work")
async def take_later(path: str, order: Order) -> None:
    note(path, f"later {order!r}")


@dramatiq.actor(queue_name="work", aliases=["bill"])
def charge(
    path: str,
    customer: Annotated[str, Field(validation_alias=AliasChoices("client"))],
    amount: Decimal,
    currency: str = "EUR",
) -> None:
    message: Any = CurrentMessage.get_current_message()
    note(path, f"{message.actor_name} {customer} {amount!r} {currency}")


@dramatiq.actor(queue_name="work", store_results=True)
def half(amount: Decimal) -> str:
    return str(amount / 2)


@dramatiq.actor(queue_name="work")
def tell(message: Mapping[str, Any], result: Decimal) -> None:
    """A callback: it gets the message that was run, as it was written, and its result."""
    path = message["options"]["path"]
    note(path, f"{message['actor_name']} of {message['args'][0]!r} gave {result!r}")


@dramatiq.actor(queue_name="work")
def mourn(message: Mapping[str, Any], spent: Mapping[str, int]) -> None:
    note(message["args"][0], f"{message['args'][1]!r} failed after {spent['retries']}")


@dramatiq.actor(queue_name="work", max_retries=1, min_backoff=20, on_retry_exhausted="mourn")
def fail_in_vain(path: str, amount: Decimal) -> None:
    note(path, repr(amount))
    raise RuntimeError("no luck")

"""Actors with secrets, and such that few may send to; ``dramatiq tests.acceptance.secretive`` runs them."""

import logging
from collections.abc import Mapping
from typing import Any

import dramatiq
from pydantic import BaseModel

from middleware.current import current_job
from middleware.secret import Secret
from tests.acceptance.app import broker, note

__all__ = ["Card", "Secret", "broker", "charge", "greet", "invoice", "keep", "mourn", "pay", "whisper"]

logging.getLogger("dramatiq").setLevel(logging.root.level)


class Card(BaseModel):
    holder: str
    number: Secret[str]


@dramatiq.actor(queue_name="work", sensitive=True, store_results=True, max_retries=0)
def whisper(path: str, text: str, *, fails: bool = False) -> str:
    """Leaves the text wherever a job can leave one; only its length is written down."""
    current_job().checkpoint({"seen": text})
    current_job().progress(1, 2, f"at {text}")
    if fails:
        try:
            {"": 0}[text]
        except KeyError as error:
            raise RuntimeError(f"no luck with {text}") from error
    note(path, f"whispered {len(text)}")
    return text.upper()


@dramatiq.actor(queue_name="work", max_retries=0, aliases=["bill"])
def charge(path: str, user: str, card: Card, *codes: Secret[int]) -> None:
    note(path, f"{user} {card!r} {len(card.number.reveal())} {sum(code.reveal() for code in codes)}")


@dramatiq.actor(queue_name="work", max_retries=2, min_backoff=20)
def keep(path: str, text: Secret[str]) -> None:
    """Fails once; its second attempt finds what the first one kept."""
    job = current_job()
    if job.state is None:
        job.checkpoint([text.reveal()])
        raise RuntimeError(f"not yet, {text.reveal()}")
    note(path, f"kept {job.state == [text.reveal()]}")


@dramatiq.actor(queue_name="work")
def greet(path: str, text: str) -> None:
    """In the clear, unless what it is sent comes of a secret."""
    note(path, f"greeted {len(text)}")


@dramatiq.actor(queue_name="work")
def mourn(message: Mapping[str, Any], error: Mapping[str, Any]) -> None:
    assert "no luck" in error["message"]


@dramatiq.actor(queue_name="work", store_results=True, allowed_producers={"billing-api"})
def pay(path: str, amount: int) -> int:
    note(path, f"paid {amount}")
    return amount


@dramatiq.actor(queue_name="work")
def invoice(path: str, amount: int) -> int:
    note(path, f"invoiced {amount}")
    return amount

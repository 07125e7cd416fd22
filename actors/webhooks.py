"""Queue ``webhooks``: events for the servers of customers, signed.

The signature is that of Standard Webhooks (standardwebhooks.com): receivers have libraries that check it.
"""

import base64
import hmac
import json
import time
from datetime import datetime
from hashlib import sha256
from typing import Annotated, Any

import dramatiq
import structlog
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, SecretStr
from sqlalchemy import select

from actors.addresses import Gate
from actors.database import database, put
from actors.events import Name
from actors.outside import Refused, at_most, needed, problem
from actors.priorities import Priority
from actors.tables import deliveries
from errors import Discard, Failure
from middleware.concurrency import Concurrency
from settings import load

#: As much of an answer is read; it is quoted in errors only.
MAX_ANSWER = 1_000
SHORTEST_SECRET = 16

log = structlog.get_logger(__name__)


class Gone(Discard):
    """Raised when the receiver answers 410: it wants no more of these."""


class WebhookEvent(BaseModel):
    """What is told."""

    model_config = ConfigDict(frozen=True)

    id: Name  #: names the event for ever; the receiver leaves out one that it has
    type: Name
    at: AwareDatetime
    data: dict[str, Any] = Field(default_factory=dict)


Url = Annotated[str, Field(max_length=2_000, pattern=r"^https?://")]


@dramatiq.actor(
    queue_name="webhooks",
    priority=Priority.NORMAL,
    max_retries=9,
    max_backoff=3_600_000,
    time_limit=60_000,
    jitter=True,
    concurrency=Concurrency(2, key="url"),
)
def deliver_webhook(url: Url, event: WebhookEvent) -> None:
    """Post an event to a customer's server; ten attempts, over about twenty minutes.

    No circuit: one receiver that is down says nothing of the others; two jobs at a time is all that it can hold up.
    Addresses that are not public are refused, and redirects not followed (``actors/addresses.py``).

    Idempotent: an event that an address has taken is not sent to it again.  A worker that dies between its answer and
    the commit sends it twice, with the same ``webhook-id``, which receivers are to go by.
    """
    if _taken(event.id, url):
        log.info("webhook.known", event_id=event.id)
        return
    status = post(url, event)
    row = {"event": event.id, "url": url, "status": status}
    with database().write() as connection:
        put(connection, deliveries, row | {"delivered_at": database().time(connection)})


def post(url: str, event: WebhookEvent) -> int:
    """Post an event once; the status, if that is 2xx.

    Raises ``Forbidden`` for an address that nothing may be sent to, :class:`Gone` on 410, and else what
    :func:`actors.outside.problem` says; a redirect is refused.
    """
    settings = load()
    secret = needed(settings.webhook_secret, "webhook_secret", "webhooks cannot be signed")
    target = gate(settings.webhook_networks).target(url)
    body = json.dumps(event.model_dump(mode="json"), separators=(",", ":")).encode()
    headers = {"Content-Type": "application/json", "Accept-Encoding": "identity", **signed(secret, event.id, body)}
    with target.answer(url, "POST", headers=headers, content=body) as response:
        said = at_most(response, MAX_ANSWER)
    if response.is_success:
        return response.status_code
    text = f"{url} answered {response.status_code} {response.reason_phrase}: {said.decode(errors='replace')[:200]}"
    if response.status_code == 410:
        raise Gone(f"{text}; remove this address")
    if response.is_redirect:
        raise Refused(f"{text}; redirects are not followed: register {response.headers.get('location')!r} itself")
    raise problem(response, text, check="the address with its owner")


def signed(secret: SecretStr, id: str, body: bytes, *, at: datetime | None = None) -> dict[str, str]:
    """The headers by which a receiver knows that it is from us, and recent."""
    moment = int(at.timestamp() if at else time.time())
    digest = hmac.digest(key_of(secret), f"{id}.{moment}.".encode() + body, sha256)
    return {
        "webhook-id": id,
        "webhook-timestamp": str(moment),
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }


def key_of(secret: SecretStr) -> bytes:
    """The key: ``whsec_`` and base64, as Standard Webhooks writes it, or any text.  Raises ``Failure``."""
    text = secret.get_secret_value()
    key = base64.b64decode(text.removeprefix("whsec_")) if text.startswith("whsec_") else text.encode()
    if len(key) < SHORTEST_SECRET:
        raise Failure(
            f"HARELINE_WEBHOOK_SECRET has {len(key)} bytes; give at least {SHORTEST_SECRET}", code="weak_secret"
        )
    return key


def _taken(event: str, url: str) -> bool:
    d = deliveries.c
    with database().read() as connection:
        return connection.scalar(select(d.status).where(d.event == event, d.url == url)) is not None


def gate(networks: str) -> Gate:
    """What judges the addresses."""
    return Gate(networks)

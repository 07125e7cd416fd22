"""Queue ``webhooks``: events for the servers of customers, signed."""

import json
from typing import Annotated, Any

import dramatiq
import structlog
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from sqlalchemy import select

from actors.addresses import Gate
from actors.database import database, put
from actors.events import Id, Name
from actors.outside import Refused, at_most, problem, retry_after_ms
from actors.priorities import Priority
from actors.signing import key_for, signed
from actors.tables import deliveries
from errors import Discard, Retry
from middleware.concurrency import Concurrency
from settings import load

#: As much of an answer is read; it is quoted in errors only.
MAX_ANSWER = 1_000

log = structlog.get_logger(__name__)


class Gone(Discard):
    """Raised when the receiver answers 410: it wants no more of these."""


class WebhookEvent(BaseModel):
    """What is told."""

    model_config = ConfigDict(frozen=True)

    id: Id  #: names the event for ever; the receiver leaves out one that it has
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

    Raises ``Forbidden`` for an address that nothing may be sent to, :class:`Gone` on 410, ``Retry`` on 429, and else
    what :func:`actors.outside.problem` says; a redirect is refused.
    """
    key = key_for(url)
    target = gate(load().webhook_networks).target(url)
    body = json.dumps(event.model_dump(mode="json"), separators=(",", ":")).encode()
    headers = {"Content-Type": "application/json", "Accept-Encoding": "identity", **signed(key, event.id, body)}
    with target.answer(url, "POST", headers=headers, content=body) as response:
        said = at_most(response, MAX_ANSWER)
    if response.is_success:
        return response.status_code
    text = f"{url} answered {response.status_code} {response.reason_phrase}: {said.decode(errors='replace')[:200]}"
    if response.status_code == 410:
        raise Gone(f"{text}; remove this address")
    if response.status_code == 429:  # of a customer's server this may go on for ever: it spends attempts
        raise Retry(text, delay=retry_after_ms(response.headers.get("retry-after")))
    if response.is_redirect:
        raise Refused(f"{text}; redirects are not followed: register {response.headers.get('location')!r} itself")
    raise problem(response, text, check="the address with its owner")


def _taken(event: str, url: str) -> bool:
    d = deliveries.c
    with database().read() as connection:
        return connection.scalar(select(d.status).where(d.event == event, d.url == url)) is not None


def gate(networks: str) -> Gate:
    """What judges the addresses."""
    return Gate(networks)

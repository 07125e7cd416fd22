"""Queue ``usage-tracking``: what language models were used, what that cost, and who wants to know.

track_llm_usage ──┬──► calculate_costs
                  └──► send_to_posthog
"""

from typing import Any

import dramatiq
import structlog

from actors.events import CompletionEvent
from actors.per_process import per_process
from actors.posthog import PostHog, PostHogUnavailable
from actors.prices import cost
from actors.store import store
from errors import Discard, SettingsError
from middleware.circuit import Circuit
from settings import load

HIGH, NORMAL = 2, 3

log = structlog.get_logger(__name__)


class UnknownRequest(Discard):
    """Raised when no completion event of this request id is stored."""


@dramatiq.actor(queue_name="usage-tracking", priority=HIGH, atomic_sends=True)
def track_llm_usage(event: dict[str, Any]) -> None:
    """Record one completion event (the fields of ``CompletionEvent``), have it priced and sent on.

    Any object is taken where it is sent.  One that is no such event is a dead letter at once, which names each field.

    Idempotent: the first event of a request id is the one that is stored, and the two jobs it sends are recorded
    with its own completion, once.  A duplicate stores nothing and sends them again; they are idempotent as well.
    """
    completion = CompletionEvent.parse(event)
    if not store().record(completion):
        log.info("usage.known", request_id=completion.request_id)
    calculate_costs.send(completion.request_id)
    send_to_posthog.send(completion.model_dump(mode="json"))


@dramatiq.actor(queue_name="usage-tracking", priority=NORMAL)
def calculate_costs(request_id: str) -> None:
    """Price a stored event and add the cost to its customer's bill of that month.

    Idempotent: an event is charged only while it has no cost, and in the transaction that sets it.
    """
    completion = store().find(request_id)
    if completion is None:
        raise UnknownRequest(f"no completion event of request {request_id!r} is stored; send it to track_llm_usage")
    if not store().charge(request_id, cost(completion)):
        log.info("usage.charged_before", request_id=request_id)


@dramatiq.actor(
    queue_name="usage-tracking",
    priority=NORMAL,
    max_retries=9,
    max_backoff=300_000,
    circuit=Circuit("posthog", counts=PostHogUnavailable),
)
def send_to_posthog(event: dict[str, Any]) -> None:
    """Deliver one completion event to PostHog; ten attempts, for a busy server is not yet a reason to give up.

    While PostHog is down its circuit is open: the job waits, and spends no attempt.  Busy (429, 503) is not down.

    Idempotent: the event's uuid follows from its request id, and PostHog keeps one event per uuid.
    """
    completion = CompletionEvent.parse(event)
    client = posthog()
    if client is None:
        log.info("posthog.skipped", request_id=completion.request_id, why="POSTHOG_URL is not set")
        return
    client.capture(completion)


@per_process
def posthog() -> PostHog | None:
    """This process's PostHog client, or None when no address is configured."""
    settings = load()
    if settings.posthog_url is None:
        return None
    if settings.posthog_key is None:
        raise SettingsError("POSTHOG_URL is set and POSTHOG_API_KEY is not; set the project's key, or unset both")
    return PostHog(settings.posthog_url, settings.posthog_key.get_secret_value(), timeout_s=settings.http_timeout_s)

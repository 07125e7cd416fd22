"""Queue ``billing``: what usage adds up to, and one invoice per customer and month.

update_billing          the bill of a month, counted anew
close_billing_period    its invoice, told to the accounting by a webhook ──► deliver_webhook
"""

from datetime import UTC, datetime
from typing import Annotated

import dramatiq
import structlog
from pydantic import Field

from actors.bills import Invoice, close, invoice, recount
from actors.events import Name
from actors.priorities import Priority
from actors.webhooks import WebhookEvent, deliver_webhook
from errors import Failure, Retry
from settings import load

Period = Annotated[str, Field(pattern=r"^\d{4}-(0[1-9]|1[0-2])$", description="a month in UTC: 2026-11")]

#: Usage is priced within seconds; what is not by then needs a person.
PRICING_MS = 30_000

log = structlog.get_logger(__name__)


@dramatiq.actor(queue_name="billing", priority=Priority.NORMAL)
def update_billing(customer: Name, period: Period) -> None:
    """Make a customer's bill of a month the sum of the usage events that have a price.

    ``calculate_costs`` keeps it up to date by itself; this counts anew, when prices were corrected by hand.

    Idempotent: it says what the sum is, not what to add.
    """
    found = recount(customer, period)
    log.info("bill.counted", customer=customer, period=period, amount=str(found.amount), unpriced=found.unpriced)


@dramatiq.actor(queue_name="billing", priority=Priority.HIGH, max_retries=5, atomic_sends=True)
def close_billing_period(customer: Name, period: Period) -> None:
    """Write the invoice of a month that is over, and tell the accounting.

    Waits for usage that has no price yet, and is a dead letter when that lasts: an unknown model needs a person.
    Usage that comes after the close is on the next month's invoice.

    Idempotent: there is one invoice per customer and period, and a second run finds it; the webhook's id follows
    from it.
    """
    made = invoice(customer, period) or _closed(customer, period)
    url = load().billing_webhook_url
    if url is None:
        log.info("invoice.untold", customer=customer, period=period, why="HARELINE_BILLING_WEBHOOK_URL is not set")
        return
    data = {
        "customer": customer,
        "period": period,
        "amount": str(made.amount),
        "currency": "USD",
        "events": made.events,
    }
    id = f"invoice:{customer}:{period}"
    deliver_webhook.send(url, WebhookEvent(id=id, type="invoice.closed", at=made.closed_at, data=data))


def _closed(customer: str, period: str) -> Invoice:
    if period >= f"{datetime.now(UTC):%Y-%m}":
        raise Failure(f"{period} is not over; close it next month", code="period_open")
    found = recount(customer, period)
    if found.unpriced:
        raise Retry(f"{found.unpriced} events of {customer} in {period} have no price yet", delay=PRICING_MS)
    made = close(customer, period)
    if made is None:
        raise Failure(f"a later period of {customer} is closed: {period} is on its invoice", code="closed_later")
    return made

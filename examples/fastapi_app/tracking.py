"""What an answer of a model costs, for whom: as it was, and as a job."""

from decimal import Decimal
from typing import Any

from sqlalchemy import BigInteger, Column, MetaData, Table, Text, select

from actors.database import database, insert
from actors.events import CompletionEvent
from actors.tables import usage_events
from actors.usage import posthog, track_llm_usage
from middleware.dual_write import dual_write

#: Billionths of a dollar per token, of input and of output.
PRICES = {"gpt-4o": (2_500, 10_000), "gpt-4o-mini": (150, 600)}

old_bills = Table(
    "example_bills",
    MetaData(),
    Column("customer", Text, primary_key=True),
    Column("period", Text, primary_key=True),
    Column("amount", BigInteger, nullable=False),  # billionths of a dollar
)


def prepare() -> None:
    """Make the table of the synchronous version.  Idempotent."""
    with database().write() as connection:
        old_bills.metadata.create_all(connection)


def track_now(event: dict[str, Any]) -> Decimal:
    """The synchronous version: checked, priced, billed and told to PostHog while the caller waits; what it costs."""
    completion = CompletionEvent.parse(event)
    per_input, per_output = PRICES[completion.model]
    amount = completion.input_tokens * per_input + completion.output_tokens * per_output
    row = {"customer": completion.customer, "period": completion.period, "amount": amount}
    with database().write() as connection:
        bill = insert(connection, old_bills).values(**row)
        keys = [old_bills.c.customer, old_bills.c.period]
        raised = {"amount": old_bills.c.amount + bill.excluded.amount}
        connection.execute(bill.on_conflict_do_update(index_elements=keys, set_=raised))
    client = posthog()
    if client is not None:
        client.capture(completion)
    return Decimal(amount).scaleb(-9)


def cost_of(event: dict[str, Any]) -> str | None:
    """What the jobs say that it costs; None until they do."""
    wanted = select(usage_events.c.cost).where(usage_events.c.request_id == event["request_id"])
    with database().read() as connection:
        cost = connection.scalar(wanted)
    return None if cost is None else str(cost)


def is_same(ours: str, theirs: str) -> bool:
    return Decimal(ours) == Decimal(theirs)


#: What the API calls.  `hareline migration` says how much of it are jobs.
track = dual_write(
    track_now, track_llm_usage, share=0.05, name="chat-usage", key="event.customer", outcome=cost_of, same=is_same
)

"""Bills and invoices: what a customer's usage of a month adds up to, and what was asked for it."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from sqlalchemy import func, select

from actors.database import add, database, insert
from actors.tables import bills, invoices, usage_events


@dataclass(frozen=True, slots=True)
class Sum:
    """Usage that was added up."""

    amount: Decimal
    events: int
    unpriced: int  #: events without a cost yet


@dataclass(frozen=True, slots=True)
class Invoice:
    """What was asked for a period."""

    customer: str
    period: str
    amount: Decimal
    events: int
    closed_at: datetime


def recount(customer: str, period: str) -> Sum:
    """Make a bill what its priced events add up to.  Idempotent.

    The bill is locked first: an event that is charged meanwhile is in the sum, or is added to it afterwards.
    """
    b, u = bills.c, usage_events.c
    row = {"customer": customer, "period": period, "amount": Decimal(0), "events": 0}
    with database().write() as connection:
        lock = insert(connection, bills).values(**row)
        connection.execute(lock.on_conflict_do_update(index_elements=[b.customer, b.period], set_={"events": b.events}))
        of = (u.customer == customer, u.period == period)
        amount, events, unpriced = connection.execute(
            select(func.sum(u.cost), func.count(u.cost), func.count() - func.count(u.cost)).where(*of)
        ).one()
        found = Sum(amount or Decimal(0), events, unpriced)
        connection.execute(
            bills.update()
            .where(b.customer == customer, b.period == period)
            .values(amount=found.amount, events=found.events)
        )
    return found


def invoice(customer: str, period: str) -> Invoice | None:
    """The invoice of a closed period, or None."""
    i = invoices.c
    with database().read() as connection:
        row = connection.execute(select(invoices).where(i.customer == customer, i.period == period)).one_or_none()
    return None if row is None else Invoice(**row._mapping)


def close(customer: str, period: str) -> Invoice | None:
    """Write the invoice of a period; the one that is there stays.  None when a later one was written before.

    It asks for all that was billed up to the period and is on no invoice yet: usage that was reported after an earlier
    period's close is on the next invoice, and on no other.
    """
    b, i = bills.c, invoices.c
    with database().write() as connection:
        # One close of a customer at a time: they take the same row.
        connection.execute(select(b.amount).where(b.customer == customer).order_by(b.period).limit(1).with_for_update())
        if connection.scalar(select(i.period).where(i.customer == customer, i.period > period).limit(1)) is None:
            sums = func.coalesce(func.sum(b.amount), 0), func.coalesce(func.sum(b.events), 0)
            used = connection.execute(select(*sums).where(b.customer == customer, b.period <= period)).one()
            sums = func.coalesce(func.sum(i.amount), 0), func.coalesce(func.sum(i.events), 0)
            asked = connection.execute(select(*sums).where(i.customer == customer, i.period < period)).one()
            row = {
                "customer": customer,
                "period": period,
                "amount": Decimal(used[0]) - Decimal(asked[0]),
                "events": used[1] - asked[1],
                "closed_at": database().time(connection),
            }
            add(connection, invoices, row)
        kept = connection.execute(select(invoices).where(i.customer == customer, i.period == period)).one_or_none()
    return None if kept is None else Invoice(**kept._mapping)

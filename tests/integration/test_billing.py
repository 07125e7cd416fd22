"""One invoice per customer and month, whatever comes late."""

from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest

from actors.billing import close_billing_period, update_billing
from actors.bills import close, invoice, recount
from actors.database import database
from actors.events import CompletionEvent
from actors.store import store
from actors.webhooks import deliver_webhook
from errors import Failure, InvalidPayload, Retry
from hareline_testing import Hareline

pytestmark = pytest.mark.one_database


def used(id: str, month: str, cost: str | None, customer: str = "northwind") -> None:
    event = {"request_id": id, "customer": customer, "user": "ada", "provider": "openai", "model": "gpt-4o"}
    numbers = {"input_tokens": 1, "output_tokens": 1, "latency_ms": 1, "at": f"{month}-15T12:00:00+00:00"}
    store().record(CompletionEvent.parse(event | numbers))
    if cost is not None:
        store().charge(id, Decimal(cost))


def test_a_bill_is_counted_anew_and_a_second_time_changes_nothing(actors_here: Any) -> None:
    used("a", "2026-09", "1.5")
    used("b", "2026-09", "0.000000000001")
    used("c", "2026-09", None)
    with database().write() as connection:
        connection.exec_driver_sql("UPDATE bills SET amount = 7, events = 9")

    for _ in range(2):
        update_billing.fn("northwind", "2026-09")
        found = recount("northwind", "2026-09")
        assert (found.amount, found.events, found.unpriced) == (Decimal("1.500000000001"), 2, 1)


def test_charges_and_counts_at_once_lose_nothing(actors_here: Any) -> None:
    for n in range(20):
        used(f"r{n}", "2026-09", None)

    def work(n: int) -> None:
        store().charge(f"r{n}", Decimal(1))
        recount("northwind", "2026-09")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(20)))
    made = close("northwind", "2026-09")
    assert made is not None
    assert (made.amount, made.events) == (Decimal(20), 20)


def test_a_month_is_closed_once_and_what_comes_late_is_on_the_next_invoice(actors_here: Any) -> None:
    used("a", "2026-09", "1.5")
    first = close("northwind", "2026-09")
    used("late", "2026-09", "0.25")
    used("b", "2026-10", "2")

    assert close("northwind", "2026-09") == first == invoice("northwind", "2026-09")
    assert first is not None
    assert (first.amount, first.events) == (Decimal("1.5"), 1)
    second = close("northwind", "2026-10")
    assert second is not None
    assert (second.amount, second.events) == (Decimal("2.25"), 2)
    assert close("northwind", "2026-08") is None


def test_the_accounting_is_told_once_per_invoice(kit: Hareline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARELINE_BILLING_WEBHOOK_URL", "https://accounting.example/hook")
    used("a", "2026-09", "1.5")
    for _ in range(2):
        close_billing_period.send("northwind", "2026-09")
        kit.drain("billing")

    first, second = kit.assert_enqueued(deliver_webhook)
    assert first.message is not None
    assert second.message is not None
    assert first.message["args"] == second.message["args"]
    url, event = first.message["args"]
    assert (url, event["id"]) == ("https://accounting.example/hook", "invoice:northwind:2026-09")
    assert event["data"]["amount"] == "1.500000000000"


def test_whatever_a_customer_is_called_the_accounting_is_told(kit: Hareline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARELINE_BILLING_WEBHOOK_URL", "https://accounting.example/hook")
    customer = "ü" * 200
    used("a", "2026-09", "1.5", customer)
    close_billing_period.send(customer, "2026-09")
    kit.drain("billing")
    [job] = kit.assert_enqueued(deliver_webhook)
    assert job.message is not None
    assert job.message["args"][1]["data"]["customer"] == customer


def test_a_month_that_is_not_over_or_not_priced_is_not_closed(kit: Hareline) -> None:
    used("a", "2026-09", None)
    with pytest.raises(Retry, match="1 events of northwind in 2026-09 have no price yet"):
        close_billing_period.fn("northwind", "2026-09")
    with pytest.raises(Failure, match="2999-01 is not over"):
        close_billing_period.fn("northwind", "2999-01")
    used("b", "2026-10", "1")
    store().charge("a", Decimal(1))
    close_billing_period.fn("northwind", "2026-10")
    with pytest.raises(Failure, match="a later period of northwind is closed"):
        close_billing_period.fn("northwind", "2026-09")
    with pytest.raises(InvalidPayload, match="period"):
        close_billing_period.send("northwind", "2026-13")

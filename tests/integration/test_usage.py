"""Usage events and bills in both databases, and the three jobs on a real broker."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, func, select

from actors import usage
from actors.events import CompletionEvent
from actors.posthog import uuid_of
from actors.prices import UnknownModel
from actors.store import UsageStore, migrations, store
from actors.tables import bills, metadata, usage_events
from cli.demo.posthog import KEY, PostHogServer
from errors import SettingsError
from ledger.engine import Database
from ledger.tables import attempts, jobs
from ledger.tables import metadata as ledger_metadata

ROOT = Path(__file__).parents[2]

EVENT: dict[str, Any] = {
    "request_id": "req_1",
    "customer": "northwind",
    "user": "ada",
    "provider": "openai",
    "model": "gpt-4o",
    "input_tokens": 1000,
    "output_tokens": 100,
    "cached_tokens": 400,
    "latency_ms": 1200,
    "at": "2026-11-01T00:30:00.123456+00:00",
}


@pytest.fixture
def app_url(database_url: str) -> str:
    """A fresh database with the usage tables in it."""
    migrations(database_url).upgrade()
    return database_url


@pytest.fixture
def events(app_url: str) -> Iterator[UsageStore]:
    found = UsageStore(app_url)
    yield found
    found.close()


@pytest.fixture
def here(app_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """The actors of this process work on the test's database."""
    monkeypatch.setenv("DATABASE_URL", app_url)
    store.forget()
    usage.posthog.forget()
    yield monkeypatch
    store().close()
    store.forget()
    usage.posthog.forget()


@contextmanager
def reading(url: str) -> Iterator[Connection]:
    database = Database(url)
    try:
        with database.read() as connection:
            yield connection
    finally:
        database.close()


def event(number: int, **changes: Any) -> CompletionEvent:
    return CompletionEvent.parse(EVENT | {"request_id": f"req_{number}"} | changes)


def bills_of(url: str) -> dict[tuple[str, str], tuple[Decimal, int]]:
    with reading(url) as connection:
        return {
            (customer, period): (amount, count)
            for customer, period, amount, count in connection.execute(select(bills).order_by(bills.c.customer))
        }


def costs_of(url: str) -> dict[str, Decimal | None]:
    with reading(url) as connection:
        rows = connection.execute(select(usage_events.c.request_id, usage_events.c.cost))
        return {row.request_id: row.cost for row in rows}


def test_no_table_has_the_name_of_one_of_the_ledger() -> None:
    assert metadata.tables.keys() & ledger_metadata.tables.keys() == set()


def test_the_schema_is_the_sum_of_its_migrations(app_url: str) -> None:
    def ours(name: str | None, kind: str, parents: object) -> bool:
        return kind != "table" or name in metadata.tables

    with reading(app_url) as connection:
        context = MigrationContext.configure(connection, opts={"include_name": ours, "compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_an_event_is_kept_as_it_was_reported(events: UsageStore) -> None:
    assert events.record(event(1))

    assert events.find("req_1") == event(1)
    assert events.find("req_2") is None


def test_the_first_event_of_a_request_is_the_one_that_is_kept(events: UsageStore) -> None:
    assert events.record(event(1, output_tokens=100))
    assert not events.record(event(1, output_tokens=999))

    assert events.find("req_1") == event(1, output_tokens=100)


def test_amounts_are_exact_to_the_last_of_twelve_decimals(events: UsageStore, app_url: str) -> None:
    # A float of dollars holds fifteen or sixteen digits; these have nineteen.
    amounts = [Decimal("1234567.000000000001"), Decimal("0.000000000001"), Decimal("0.1"), Decimal("0.2")]
    for number, amount in enumerate(amounts):
        events.record(event(number))
        assert events.charge(f"req_{number}", amount)

    assert bills_of(app_url) == {("northwind", "2026-11"): (Decimal("1234567.300000000002"), 4)}
    assert costs_of(app_url) == {f"req_{number}": amount for number, amount in enumerate(amounts)}
    with reading(app_url) as connection:
        assert connection.scalar(select(func.sum(usage_events.c.cost))) == Decimal("1234567.300000000002")


def test_an_event_is_charged_once(events: UsageStore, app_url: str) -> None:
    events.record(event(1))

    assert events.charge("req_1", Decimal("0.003"))
    assert not events.charge("req_1", Decimal("0.003"))

    assert bills_of(app_url) == {("northwind", "2026-11"): (Decimal("0.003"), 1)}


def test_an_event_that_is_free_is_charged_once_too(events: UsageStore, app_url: str) -> None:
    events.record(event(1))

    assert [events.charge("req_1", Decimal(0)) for _ in range(2)] == [True, False]

    assert bills_of(app_url) == {("northwind", "2026-11"): (Decimal(0), 1)}


def test_bills_are_kept_per_customer_and_month(events: UsageStore, app_url: str) -> None:
    events.record(event(1))
    events.record(event(2, at="2026-10-31T23:59:59+00:00"))
    events.record(event(3, customer="globex"))
    for number in (1, 2, 3):
        events.charge(f"req_{number}", Decimal(number))

    assert bills_of(app_url) == {
        ("globex", "2026-11"): (Decimal(3), 1),
        ("northwind", "2026-10"): (Decimal(2), 1),
        ("northwind", "2026-11"): (Decimal(1), 1),
    }


def test_threads_that_charge_the_same_events_at_once_bill_each_of_them_once(events: UsageStore, app_url: str) -> None:
    for number in range(25):
        events.record(event(number))

    def charge_all(_: int) -> int:
        return sum(events.charge(f"req_{number}", Decimal("0.000000000001")) for number in range(25))

    with ThreadPoolExecutor(4) as pool:
        charged = list(pool.map(charge_all, range(4)))

    assert sum(charged) == 25
    assert bills_of(app_url) == {("northwind", "2026-11"): (Decimal("0.000000000025"), 25)}


def test_an_embedded_database_migrates_itself_at_first_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path / 'new' / 'hareline.db'}")
    store.forget()

    assert store().record(event(1))

    store().close()
    store.forget()


def test_pricing_twice_changes_nothing(here: pytest.MonkeyPatch, app_url: str) -> None:
    store().record(event(1))

    usage.calculate_costs("req_1")
    usage.calculate_costs("req_1")

    assert costs_of(app_url) == {"req_1": Decimal("0.003")}
    assert bills_of(app_url) == {("northwind", "2026-11"): (Decimal("0.003"), 1)}


def test_an_event_without_a_price_stays_unpriced_and_unbilled(here: pytest.MonkeyPatch, app_url: str) -> None:
    store().record(event(1, model="gpt-nobody-sells"))

    with pytest.raises(UnknownModel, match="gpt-nobody-sells"):
        usage.calculate_costs("req_1")

    assert costs_of(app_url) == {"req_1": None}
    assert bills_of(app_url) == {}


def test_pricing_an_event_nobody_stored_names_it(here: pytest.MonkeyPatch) -> None:
    with pytest.raises(usage.UnknownRequest, match="req_404"):
        usage.calculate_costs("req_404")


def test_without_an_address_nothing_is_sent_to_posthog(here: pytest.MonkeyPatch) -> None:
    here.delenv("POSTHOG_URL", raising=False)

    usage.send_to_posthog(EVENT)

    assert usage.posthog() is None


def test_an_address_without_a_key_is_an_error_that_says_so(here: pytest.MonkeyPatch) -> None:
    here.setenv("POSTHOG_URL", "http://127.0.0.1:1")
    here.delenv("POSTHOG_API_KEY", raising=False)

    with pytest.raises(SettingsError, match="POSTHOG_API_KEY"):
        usage.send_to_posthog(EVENT)


_WORK = """
import json, sys
import dramatiq
from actors import broker
from actors.usage import track_llm_usage
from ledger.queries import Queries

for event in json.loads(sys.argv[1]):
    track_llm_usage.send(event)
worker = dramatiq.Worker(broker)
worker.start()
broker.join("usage-tracking", timeout=60_000)
worker.stop()
broker.close()
"""


def test_an_event_is_tracked_priced_and_delivered_and_a_second_time_changes_nothing(app_url: str) -> None:
    """The whole queue on a real broker, in a process of its own; PostHog is busy twice."""
    sent = [EVENT, EVENT, EVENT | {"request_id": "req_2", "model": "unheard-of"}, EVENT | {"input_tokens": "many"}]
    busy = {uuid_of("req_1"): [503], uuid_of("req_2"): [429]}
    with PostHogServer(busy) as server:
        env = {**os.environ, "DATABASE_URL": app_url, "POSTHOG_URL": server.url, "POSTHOG_API_KEY": KEY}
        subprocess.run([sys.executable, "-c", _WORK, json.dumps(sent)], cwd=ROOT, env=env, timeout=90, check=True)

    assert costs_of(app_url) == {"req_1": Decimal("0.003"), "req_2": None}
    assert bills_of(app_url) == {("northwind", "2026-11"): (Decimal("0.003"), 1)}
    assert server.received == {uuid_of("req_1"): 2, uuid_of("req_2"): 1}
    assert server.answers == {200: 3, 503: 1, 429: 1}
    assert jobs_of(app_url) == {
        ("track_llm_usage", "completed", None): 3,
        ("track_llm_usage", "failed", "InvalidEvent"): 1,
        ("calculate_costs", "completed", None): 2,
        ("calculate_costs", "failed", "UnknownModel"): 1,
        ("send_to_posthog", "completed", None): 3,
    }


def jobs_of(url: str) -> dict[tuple[str, str, str | None], int]:
    """How many jobs there are, by actor, state and the type of the error they ended with."""
    error = select(attempts.c.error_type).where(attempts.c.job_id == jobs.c.id, attempts.c.outcome == "failed")
    found: dict[tuple[str, str, str | None], int] = {}
    with reading(url) as connection:
        for actor, state, kind in connection.execute(select(jobs.c.actor, jobs.c.state, error.scalar_subquery())):
            key = actor, state, kind and kind.rpartition(".")[2]
            found[key] = found.get(key, 0) + 1
    return found

"""examples/fastapi_app: its tracking leaves the request path, step by step."""

from collections.abc import Iterator
from decimal import Decimal

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from actors.database import database
from actors.tables import bills
from cli.demo.posthog import KEY
from control import Control, migration
from examples.fastapi_app.app import create_app
from examples.fastapi_app.standins import FarPostHog, Model
from examples.fastapi_app.tracking import old_bills
from hareline_testing import Hareline

NAME = "chat-usage"


@pytest.fixture
def posthog(monkeypatch: pytest.MonkeyPatch) -> Iterator[FarPostHog]:
    with Model() as model, FarPostHog(0.001, 0.0) as server:
        for name, value in (("POSTHOG_URL", server.url), ("POSTHOG_API_KEY", KEY), ("OPENAI_BASE_URL", model.url)):
            monkeypatch.setenv(name, value)
        yield server


@pytest.fixture
def api(posthog: FarPostHog, kit: Hareline) -> Iterator[TestClient]:
    with TestClient(create_app()) as client:
        yield client


def chat(api: TestClient, prompt: str = "Hello") -> str:
    answer = api.post("/chat", json={"customer": "northwind", "user": "ada", "prompt": prompt})
    assert answer.status_code == 200, answer.text
    assert answer.json()["text"] == f"You said: {prompt}"
    return str(answer.json()["request_id"])


def billed() -> list[tuple[str, Decimal]]:
    with database().read() as connection:
        return [(row.customer, row.amount) for row in connection.execute(select(bills))]


def test_tracking_is_moved_out_of_the_request_path(api: TestClient, kit: Hareline, posthog: FarPostHog) -> None:
    control = Control(kit.broker.ledger.url, "embedded")
    compare = kit.broker.dual_writes.round
    chat(api)
    compare()
    migration.set_mode(control, NAME, "dual", by="test")
    migration.set_share(control, NAME, 1.0, by="test")
    compare()
    for prompt in ("Hello", "Again, hello"):
        chat(api, prompt)
    compare()
    kit.drain()
    kit.advance(seconds=2)  # the thread may have looked between two of the jobs
    compare()

    [view] = migration.report(kit.broker.queries)
    assert (view.equal, view.different, view.missing, view.error) == (1, 1, 0, 0)
    [found] = migration.differences(kit.broker.queries, NAME, 10)
    assert (found.synchronous, found.asynchronous) == ('"0.003500000"', '"0.003000000000"'), (
        "what was cached is cheaper"
    )
    with database().read() as connection:
        assert connection.scalar(select(old_bills.c.amount)) == 10_500_000

    migration.set_mode(control, NAME, "async", by="test")
    compare()
    control.close()
    before = sum(posthog.answers.values())
    request_id = chat(api)
    assert sum(posthog.answers.values()) == before, "nobody has waited for PostHog"
    [waiting] = [job for job in kit.jobs() if job.state == "waiting"]
    assert request_id in str(waiting.message)
    kit.drain()
    assert billed() == [("northwind", Decimal("0.01"))]
    with database().read() as connection:
        assert connection.scalar(select(old_bills.c.amount)) == 10_500_000

"""dramatiq-dashboard with real workers, on every road."""

import html
import re
from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from broker import build as build_broker
from dashboard.app import build
from settings import Settings
from tests.acceptance.rabbit import Rabbit, settled
from tests.acceptance.system import System
from tests.servers import RabbitMQ

QUEUE = "work"


@pytest.fixture
def console(anywhere: System, request: pytest.FixtureRequest) -> Iterator[TestClient]:
    """The console over the system under test."""
    rabbitmq: RabbitMQ | None = request.getfixturevalue("rabbitmq") if anywhere.broker_url else None
    settings = Settings(
        database_url=anywhere.database_url,
        broker_url=anywhere.broker_url,
        rabbitmq_management_url=rabbitmq.management_url if rabbitmq else None,
        console_insecure_local=True,
    )
    app = build(settings, broker=build_broker(settings))
    with TestClient(app, base_url="http://127.0.0.1/dramatiq/", follow_redirects=False) as client:
        yield client


def page(console: TestClient, path: str = "") -> str:
    answer = console.get(path.removeprefix("/dramatiq/"))
    assert answer.status_code == 200, answer.text
    return html.unescape(re.sub(r"\s+", " ", answer.text))


def test_dead_letters_are_listed_retried_and_deleted(
    anywhere: System, console: TestClient, request: pytest.FixtureRequest
) -> None:
    system, needed = anywhere, anywhere.folder / "needed"
    system.env |= {"HARELINE_RECONCILE_S": "0.5", "WORKER_QUEUE_STALLED_INTERVAL": "20000"}
    system.worker()
    sent = [f"need.send(log, {name!r}, {str(needed)!r})" for name in ("again", "gone")]
    system.run("\n".join([*sent, "fail.send(log, 'x')"]))
    assert system.finished(3) == {"failed": 3}
    counts = re.search(r"> work </a> </td>(.*?)</tr>", page(console))
    assert counts is not None
    assert re.findall(r"> (\d+) </td>", counts[1]) == ["0", "0", "3"]
    ids = {(row.error_message or "").partition(" ")[0]: row.id for row in system.queries.dead()}
    listed = page(console, "queues/work/failed")
    assert all(f"/failed/{id}" in listed for id in ids.values())
    assert "RuntimeError: again found nothing" in page(console, f"queues/work/failed/{ids['again']}")
    needed.touch()
    answer = console.post("requeue-message", data={"queue": "work.XQ", "id": ids["again"]})
    assert answer.status_code == 303
    assert system.finished(3) == {"completed": 1, "failed": 2}
    assert "completed" in page(console, answer.headers["location"])
    answer = console.post("delete-message", data={"queue": "work.XQ", "id": ids["gone"]})
    assert page(console, answer.headers["location"]).count("Requeue</button>") == 1
    assert system.finished(2) == {"completed": 1, "failed": 1}
    who = system.sql("SELECT event, actor FROM journal WHERE event IN ('retried', 'discarded') ORDER BY id")
    assert who == [("retried", "console:local"), ("discarded", "console:local")]
    if system.broker_url:
        settled(system, Rabbit(request.getfixturevalue("rabbitmq"), system.broker_url))
        panel = page(console).partition("RabbitMQ")[2]
        assert re.search(rf'<a href="http://127.0.0.1:\d+/#/queues/[\w-]+/{QUEUE}" rel="noreferrer">{QUEUE}</a>', panel)

"""Who is confined to some queues sees and touches no job of another, whatever they ask for."""

from collections.abc import Iterator

import dramatiq
import pytest
from starlette.testclient import TestClient

from broker import build as build_broker
from control import Control, jobs, queues, tokens
from control.permissions import Role
from control.who import Who
from dashboard.app import build
from errors import Denied, JobNotFound
from settings import Settings

pytestmark = pytest.mark.prove

ADA = Who("ada", "api", Role.ADMIN, queues=("billing.*",))


@pytest.fixture
def client(database_url: str) -> Iterator[TestClient]:
    """As a program with a token for ``billing.*``; a job waits on either queue."""
    settings = Settings(database_url=database_url)
    broker = build_broker(settings)
    for queue in ("billing.eu", "letters"):

        @dramatiq.actor(broker=broker, queue_name=queue, actor_name=f"on_{queue}")
        def act() -> None: ...

        act.send_with_options(delay=3_600_000)
    control = Control(database_url, "embedded")
    made = tokens.create(control, "ada", Role.ADMIN, queues=["billing.*"], expires_in=None, by="test")
    control.close()
    bearer = {"authorization": f"Bearer {made.token}"}
    with TestClient(build(settings, broker=broker), base_url="http://127.0.0.1", headers=bearer) as opened:
        yield opened


def of(client: TestClient, queue: str) -> str:
    """The id of the job on it."""
    services = client.app.state.services  # type: ignore[attr-defined]
    [row] = services.queries.jobs(queue=queue)
    return str(row.id)


def test_what_is_listed_counted_and_shown_is_of_these_queues_only(client: TestClient) -> None:
    ours, theirs = of(client, "billing.eu"), of(client, "letters")
    assert [job["id"] for job in client.get("/api/v1/jobs").json()["items"]] == [ours]
    assert [job["id"] for job in client.get("/api/v1/jobs?queue=letters").json()["items"]] == []
    assert client.get("/api/v1/jobs/count").json()["all"]["count"] == 1
    assert [queue["name"] for queue in client.get("/api/v1/queues").json()] == ["billing.eu"]
    for path in ("", "/payload", "/result"):
        assert client.get(f"/api/v1/jobs/{theirs}{path}").status_code == 404
        assert client.get(f"/api/v1/jobs/{ours}{path}").status_code == 200
    assert client.get("/api/v1/queues/letters").status_code == 403
    for page in ("/", "/jobs", "/queues", f"/jobs/{theirs}", "/queues/letters"):
        text = client.get(page, headers={"accept": "text/html"}).text
        assert theirs not in text.replace(f"/jobs/{theirs}", "").replace(f"no job &#39;{theirs}", "")
        assert "on_letters" not in text


def test_what_is_done_is_done_to_these_queues_only(client: TestClient) -> None:
    ours, theirs = of(client, "billing.eu"), of(client, "letters")
    assert client.post(f"/api/v1/jobs/{theirs}/cancel").status_code == 404
    assert client.post(f"/api/v1/jobs/{theirs}/reveal").status_code == 404
    assert client.post("/api/v1/queues/letters/pause").status_code == 403
    assert client.post(f"/api/v1/jobs/{ours}/cancel").status_code == 200
    assert client.post("/api/v1/queues/billing.eu/pause").status_code == 200
    for path in ("workers", "limits", "schedules", "flows", "circuits", "audit", "users"):
        assert client.get(f"/api/v1/{path}").status_code in (403, 404)


def test_the_verbs_see_to_it_themselves(client: TestClient, database_url: str) -> None:
    theirs = of(client, "letters")
    control = Control(database_url, "embedded")
    with pytest.raises(JobNotFound):
        jobs.cancel(control, theirs, by=ADA)
    for verb in (queues.pause, queues.resume, queues.drain):
        with pytest.raises(Denied, match=r"billing\.\*"):
            verb(control, "letters", by=ADA)
    control.close()

"""The HTTP API, on both databases: what it answers, and how it says what is wrong."""

from collections.abc import Iterator

import dramatiq
import httpx2
import pytest
from starlette.testclient import TestClient

from broker import Broker
from broker import build as build_broker
from dashboard.app import build
from ledger import open_ledger
from ledger.states import Outcome, Reason
from settings import Settings
from tests.ledgers import join, new_job, run

URN = "urn:hareline:problem:"


@pytest.fixture
def settings(database_url: str) -> Settings:
    return Settings(database_url=database_url, console_insecure_local=True)


@pytest.fixture
def broker(settings: Settings) -> Broker:
    broker = build_broker(settings)

    @dramatiq.actor(broker=broker, queue_name="letters")
    def post(to: str, copies: int = 1) -> None: ...

    @dramatiq.actor(broker=broker, queue_name="letters", allowed_producers={"billing-api"})
    def bill(to: str) -> None: ...

    return broker


@pytest.fixture
def api(settings: Settings, broker: Broker) -> Iterator[TestClient]:
    with TestClient(build(settings, broker=broker), base_url="http://127.0.0.1/api/v1/") as client:
        yield client


def wrong(answer: httpx2.Response, status: int, name: str) -> str:
    """The detail of the problem it is to be."""
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    body = answer.json()
    assert (body["type"], body["status"]) == (URN + name, status)
    assert body["title"]
    assert body["remedy"]
    return str(body["detail"])


def test_a_job_is_sent_listed_cancelled_retried_and_removed(api: TestClient) -> None:
    sent = api.post("jobs", json={"actor": "post", "args": ["Ada"], "delay_ms": 60_000, "priority": 1})
    assert sent.status_code == 201
    assert (sent.json()["state"], sent.json()["duplicate"]) == ("delayed", False)
    id = sent.json()["id"]
    [row] = api.get("jobs", params={"state": "delayed"}).json()["items"]
    assert (row["id"], row["priority"], row["queue"]) == (id, 1, "letters")
    assert api.get(f"jobs/{id}").json()["message"]["args"] == ["Ada"]
    assert "only a finished job" in wrong(api.delete(f"jobs/{id}"), 409, "illegal-transition")
    assert api.post(f"jobs/{id[:20]}/cancel").json() == {"id": id, "result": "cancelled"}
    assert api.post(f"jobs/{id}/retry").json() == {"id": id, "result": "retried"}
    told = [line["event"] for line in api.get(f"jobs/{id}").json()["timeline"]]
    assert told == ["enqueued", "cancelled", "retried"]
    api.post(f"jobs/{id}/cancel")
    assert api.delete(f"jobs/{id}").status_code == 200
    wrong(api.get(f"jobs/{id}"), 404, "job-not-found")


def test_what_an_actor_does_not_take_is_refused_as_by_send(api: TestClient) -> None:
    detail = wrong(api.post("jobs", json={"actor": "post", "args": [1]}), 422, "invalid-payload")
    assert "to: expected" in detail
    assert "did you mean post?" in wrong(api.post("jobs", json={"actor": "pots"}), 404, "not-found")
    wrong(api.post("jobs", json={"actor": "post", "args": ["x" * 200_000]}), 413, "payload-too-large")
    wrong(api.post("jobs", json={"actor": "bill", "args": ["Ada"]}), 403, "forbidden")
    assert api.get("jobs").json() == {"items": [], "next": None}


def test_a_request_that_does_not_fit_names_the_fields(api: TestClient) -> None:
    answer = api.post("jobs", json={"actor": "post", "delay_ms": -1, "prio": 2})
    wrong(answer, 422, "invalid-request")
    assert {error["at"] for error in answer.json()["errors"]} == {"body.delay_ms", "body.prio"}
    wrong(api.get("jobs", params={"limit": 1001}), 422, "invalid-request")
    wrong(api.get("jobs", params={"queue": "a\0b"}), 422, "invalid-request")
    wrong(api.get("nothing"), 404, "no-such-path")
    wrong(api.patch("jobs"), 405, "method-not-allowed")
    wrong(api.post("jobs", content=b"x" * 2_000_000), 413, "body-too-large")
    wrong(api.post("jobs", content=(b'"' + b"x" * 500_000 for _ in range(4))), 413, "body-too-large")


def test_pages_go_on_where_the_one_before_ended(api: TestClient, database_url: str) -> None:
    session = open_ledger(database_url, road="embedded").session("test")
    jobs = [new_job() for _ in range(5)]
    session.enqueue(jobs)
    worker = join(session)
    dead = new_job()
    run(session, worker, dead, Outcome.FAILED, reason=Reason.RETRIES_EXHAUSTED, error_type="ValueError")
    session.close()
    seen: list[str] = []
    after: dict[str, str] = {}
    while True:
        page = api.get("jobs", params={"limit": 2, **after}).json()
        seen += [row["id"] for row in page["items"]]
        if page["next"] is None:
            break
        after = {"after": page["next"]}
    assert seen == sorted((job.id for job in [*jobs, dead]), reverse=True)
    [row] = api.get("dead-letters").json()["items"]
    assert (row["id"], row["error_type"]) == (dead.id, "ValueError")


def test_queues_are_paused_and_resumed(api: TestClient) -> None:
    assert api.post("queues/letters/pause").json() == {"queue": "letters", "paused": True}
    assert api.get("queues/letters").json()["paused"] is True
    assert api.post("queues/letters/resume").json() == {"queue": "letters", "held_back": 0}
    assert "did you mean letters?" in wrong(api.post("queues/leters/pause"), 404, "not-found")


@pytest.mark.parametrize(
    ("path", "status"),
    [("/ops/api/v1/ready", 200), ("/api/v1/ready", 200), ("/opsx/api/v1/ready", 404), ("/ops/opsx", 404), ("/", 404)],
)
def test_a_prefix_is_a_whole_segment_of_the_path_which_a_proxy_may_take_away(
    sqlite_url: str, path: str, status: int
) -> None:
    settings = Settings(database_url=sqlite_url, console_prefix="/ops", console_insecure_local=True)
    with TestClient(build(settings, broker=build_broker(settings)), base_url="http://127.0.0.1") as client:
        assert client.get(path).status_code == status
        assert client.get("/ops", follow_redirects=False).headers["location"] == "/ops/"


def test_a_ledger_that_is_away_is_unavailable_not_an_error(postgres_url: str) -> None:
    url = postgres_url.rpartition("/")[0] + "/nothing_of_that_name"
    settings = Settings(database_url=url, console_insecure_local=True)
    with TestClient(build(settings, broker=build_broker(settings)), base_url="http://127.0.0.1") as client:
        wrong(client.get("/api/v1/ready"), 503, "ledger-unavailable")

"""The HTTP API, on both databases: what it answers, and how it says what is wrong."""

import json
from collections.abc import Iterator, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import dramatiq
import httpx2
import pytest
from fastapi import Depends
from sqlalchemy import QueuePool, create_engine, select
from starlette.testclient import TestClient
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs

from broker import Broker
from broker import build as build_broker
from control import Control, alerts, operations
from control.health import Rules, check
from dashboard.app import build
from dashboard.security import everybody
from ledger import open_ledger
from ledger.bookkeeping import Bookkeeping
from ledger.engine import Database
from ledger.queries import Queries
from ledger.redact import HIDDEN, hide
from ledger.schedule_queries import ScheduleQueries
from ledger.states import Outcome, Reason
from ledger.tables import repeats
from settings import Settings
from tests.ledgers import join, new_job, run

pytestmark = pytest.mark.one_database

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
    assert api.get("jobs").json() == {"items": [], "next": None, "since": None}


def test_a_request_that_does_not_fit_names_the_fields(api: TestClient) -> None:
    answer = api.post("jobs", json={"actor": "post", "delay_ms": -1, "prio": 2})
    wrong(answer, 422, "invalid-request")
    assert {error["at"] for error in answer.json()["errors"]} == {"body.delay_ms", "body.prio"}
    wrong(api.get("jobs", params={"limit": 1001}), 422, "invalid-request")
    wrong(api.get("jobs", params={"queue": "a\0b"}), 422, "invalid-request")
    wrong(api.get("nothing"), 404, "no-such-path")
    wrong(api.patch("jobs"), 405, "method-not-allowed")
    wrong(api.post("jobs"), 422, "invalid-request")
    wrong(api.post("jobs", content=b"x" * 2_000_000), 413, "body-too-large")
    wrong(api.post("jobs", content=(b'"' + b"x" * 500_000 for _ in range(4))), 413, "body-too-large")


def test_a_body_without_its_content_type_is_refused_with_the_header_it_lacks(api: TestClient) -> None:
    body = b'{"actor": "post", "args": ["Ada"]}'
    assert "the header Content-Type is missing" in wrong(api.post("jobs", content=body), 415, "not-json")
    form = {"Content-Type": "application/x-www-form-urlencoded"}  # what curl -d says
    told = wrong(api.post("jobs", content=body, headers=form), 415, "not-json")
    assert "says 'application/x-www-form-urlencoded'" in told
    assert "Content-Type: application/json" in told
    assert (
        api.post("jobs", content=body, headers={"Content-Type": "Application/JSON; charset=utf-8"}).status_code == 201
    )
    assert len(api.get("jobs").json()["items"]) == 1
    writes = [each for path in api.get("openapi.json").json()["paths"].values() for each in path.values()]
    assert [it["operationId"] for it in writes if ("requestBody" in it) != ("415" in it["responses"])] == []


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
    [("/ops/api/v1/ready", 200), ("/api/v1/ready", 200), ("/opsx/api/v1/ready", 404), ("/ops/opsx", 404), ("/", 200)],
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


def test_health_is_judged_and_alerts_are_listed_and_muted(api: TestClient, database_url: str) -> None:
    dead_letters(database_url, 11)
    health = api.get("health").json()
    [finding] = health["findings"]
    assert (health["level"], finding["queue"], finding["rule"], finding["value"]) == (
        "warning",
        "letters",
        "failed",
        11,
    )
    assert (finding["warning"], finding["critical"], finding["text"]) == (10, 100, "11 dead letters")
    assert "ok" in {one["level"] for one in api.get("health", params={"everything": True}).json()["findings"]}

    control, queries, schedules = (
        Control(database_url, "embedded"),
        Queries(database_url),
        ScheduleQueries(database_url),
    )
    alerts.judge(control, check(queries, schedules, Rules.of(Settings())), ["log"], calm_s=0)
    for opened in (control, queries, schedules):
        opened.close()
    told = api.get("alerts").json()
    assert [(x["queue"], x["rule"], x["level"]) for x in told["standing"]] == [("letters", "failed", "warning")]
    assert [(x["was"], x["level"]) for x in told["changes"]] == [("ok", "warning")]
    assert [(x["destination"], x["notice"]["level"]) for x in told["deliveries"]] == [("log", "warning")]
    page = api.get("http://127.0.0.1/", headers={"accept": "text/html"}).text
    assert "11 dead letters" in page.partition('id="alerts"')[2]

    letters = {"queue": "letters", "rule": "failed"}
    assert api.post("alerts/mute", json=letters | {"for_s": 60}).json() == letters | {"muted": True}
    [standing] = api.get("alerts").json()["standing"]
    assert standing["muted_by"] == "api:local"
    assert api.post("alerts/unmute", json=letters).json()["muted"] is False
    assert "no rule 'faild'" in wrong(api.post("alerts/mute", json=letters | {"rule": "faild"}), 422, "bad-input")
    assert [x["operation"] for x in api.get("audit").json()["items"]] == ["unmute_alert", "mute_alert"]


def dead_letters(url: str, count: int) -> list[str]:
    """Ids of dead letters, as workers leave them, with their groups and words written."""
    session = open_ledger(url, road="embedded").session("test")
    worker = join(session)
    letters = [new_job() for _ in range(count)]
    for job in letters:
        failed = {"reason": Reason.RETRIES_EXHAUSTED, "error_type": "ValueError", "error_message": "token=hush no luck"}
        run(session, worker, job, Outcome.FAILED, **failed)
    session.close()
    books = Bookkeeping(url, keep_days=1)
    books.group()
    books.close()
    return [job.id for job in letters]


def test_a_bulk_operation_says_what_it_would_do_and_refuses_when_it_is_not_as_expected(
    api: TestClient, database_url: str
) -> None:
    ids = dead_letters(database_url, 3)
    tried = api.post("operations", json={"action": "retry", "q": "queue:letters", "dry_run": True})
    assert (tried.status_code, tried.json()["id"], tried.json()["expected"]["count"]) == (202, None, 3)
    asked = {"action": "retry", "q": "queue:letters", "expected_count": 2}
    wrong(api.post("operations", json=asked), 409, "count-changed")
    wrong(api.post("operations", json={"action": "retry", "q": "queue:letters"}), 422, "invalid-request")
    wrong(api.post("operations", json={"action": "retry", "q": "", "expected_count": 3}), 422, "invalid-request")
    begun = api.post("operations", json=asked | {"expected_count": 3}).json()
    control = Control(database_url, "embedded")
    operations.run(control, begun["id"])
    control.close()
    done = api.get(f"operations/{begun['id']}").json()
    assert (done["state"], done["done"], done["failed"], done["progress"]) == ("done", 3, 0, 1.0)
    assert [x["id"] for x in api.get("operations").json()["items"]] == [begun["id"]]
    found = api.get("jobs", params={"q": f"id:{ids[0]}"}).json()["items"]
    assert [job["state"] for job in found] == ["waiting"]
    wrong(api.get("operations/nothing"), 404, "operation-not-found")


def test_failures_are_grouped_acknowledged_and_retried_together(api: TestClient, database_url: str) -> None:
    dead_letters(database_url, 2)
    [group] = api.get("failures").json()
    assert (group["error_type"], group["count"], group["state"]) == ("ValueError", 2, "open")
    path = f"failures/{group['fingerprint']}"
    assert api.post(f"{path}/acknowledge").json()["state"] == "acknowledged"
    assert api.get(path).json()["state"] == "acknowledged"
    begun = api.post(f"{path}/retry", json={"expected_count": 2})
    assert (begun.status_code, begun.json()["expected"]["count"]) == (202, 2)
    wrong(api.post(f"{path}/snooze", json={"for_s": -1}), 422, "invalid-request")
    wrong(api.get("failures/nothing"), 404, "not-found")


def test_jobs_are_counted_and_exported(api: TestClient, database_url: str) -> None:
    dead_letters(database_url, 2)
    counts = api.get("jobs/count", params={"queue": "letters"}).json()
    assert counts["all"] == {"count": 2, "more": False}
    assert counts["states"]["failed"] == {"count": 2, "more": False}
    lines = api.get("jobs/export", params={"q": "state:failed"})
    assert lines.headers["content-type"] == "application/x-ndjson"
    assert [json.loads(line)["state"] for line in lines.text.splitlines()] == ["failed", "failed"]
    assert len(api.get("jobs/export", params={"format": "csv", "most": 1}).text.splitlines()) == 2
    assert "did you mean 'state'" in wrong(api.get("jobs", params={"q": "stat:failed"}), 422, "bad-query")


def test_a_job_is_edited_run_now_and_its_result_looked_at(api: TestClient, database_url: str) -> None:
    id = api.post("jobs", json={"actor": "post", "args": ["Ada"], "delay_ms": 60_000}).json()["id"]
    assert api.post(f"jobs/{id}/run-now").json() == {"id": id, "result": "waiting"}
    api.post(f"jobs/{id}/cancel")
    new = api.post(f"jobs/{id}/edit", json={"args": ["Grace"]})
    assert new.status_code == 201
    assert api.get(f"jobs/{new.json()['id']}/payload").json()["message"]["args"] == ["Grace"]
    wrong(api.post(f"jobs/{id}/edit", json={"args": [1]}), 422, "invalid-payload")
    assert api.get(f"jobs/{id}/result").json() == {"id": id, "state": "cancelled", "kept": False, "value": None}


def test_what_jobs_carry_is_for_those_who_may_see_it_and_secrets_for_those_who_ask(
    api: TestClient, database_url: str
) -> None:
    sent = api.post("jobs", json={"actor": "post", "args": ["password=hunter2"]}).json()["id"]
    [dead] = dead_letters(database_url, 1)
    assert "hunter2" not in api.get(f"jobs/{sent}").text + api.get("jobs").text + api.get("jobs/export").text
    assert "hush" not in api.get(f"jobs/{dead}").text + api.get("dead-letters").text
    revealed = api.post(f"jobs/{sent}/reveal").json()
    assert revealed["message"]["args"] == ["password=hunter2"]
    assert [line["event"] for line in api.get(f"jobs/{sent}").json()["timeline"]] == ["enqueued", "revealed"]

    made = api.post("tokens", json={"name": "looker-on", "role": "viewer"}).json()
    api.headers["Authorization"] = f"Bearer {made['token']}"
    seen = api.get(f"jobs/{dead}").json()
    assert (seen["message"], seen["checkpoint"]) == (None, None)
    assert "no luck" not in api.get(f"jobs/{dead}").text + api.get("dead-letters").text + api.get("jobs").text
    wrong(api.get("jobs", params={"q": "args.to:hunter2"}), 403, "denied")
    wrong(api.get("jobs", params={"q": "error:luck"}), 403, "denied")
    wrong(api.get("jobs/export"), 403, "denied")
    wrong(api.get(f"jobs/{dead}/payload"), 403, "denied")
    wrong(api.post(f"jobs/{dead}/retry"), 403, "denied")


def test_what_settings_name_is_shown_to_nobody_who_does_not_reveal_it(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    hidden = settings.model_copy(update={"redact_keys": "to, customer_*"})
    broker = build_broker(hidden)

    @dramatiq.actor(broker=broker, queue_name="letters")
    def post(to: str, copies: dict[str, str]) -> None:
        raise ValueError("no such customer_name=hush")

    with TestClient(build(hidden, broker=broker), base_url="http://127.0.0.1/api/v1/") as api:
        carried = {"to": "hush", "copies": {"customer_mail": "hush", "kind": "letter"}}
        id = api.post("jobs", json={"actor": "post", "kwargs": carried}).json()["id"]
        worker = dramatiq.Worker(broker, worker_timeout=100)
        with caplog.at_level("DEBUG"):
            for name in ("dramatiq", post.logger.name):
                caplog.set_level("DEBUG", name)
            worker.start()
            broker.join("letters", timeout=30_000)
            worker.stop()
        shown = api.get(f"jobs/{id}").json()
        assert shown["message"]["kwargs"] == {"to": HIDDEN, "copies": {"customer_mail": HIDDEN, "kind": "letter"}}
        asked = {"query": "{ recentFailedJobs { payload error } }"}
        answers = [api.get(f"jobs/{id}"), api.get("jobs"), api.get("jobs/export"), api.get(f"jobs/{id}/payload")]
        answers += [api.get("dead-letters"), api.post("http://127.0.0.1/graphql", json=asked)]
        answers += [api.get(f"http://127.0.0.1/jobs/{id}", headers={"accept": "text/html"})]
        assert [answer.url for answer in answers if "hush" in answer.text] == []
        assert "hush" not in "".join(line for line in caplog.text.splitlines() if "args=" in line or "message " in line)
        assert api.post(f"jobs/{id}/reveal").json()["message"]["kwargs"] == carried
    hide("")


def test_a_request_that_is_sent_again_with_its_key_is_answered_again_and_not_done_again(api: TestClient) -> None:
    send = {"actor": "post", "args": ["Ada"]}
    key = {"Idempotency-Key": "2026-11-22/1"}
    first = api.post("jobs", json=send, headers=key)
    again = api.post("jobs", json=send, headers=key)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()
    assert again.headers["idempotent-replay"] == "true"
    assert api.get("jobs/count").json()["all"]["count"] == 1
    wrong(api.post("jobs", json=send | {"args": ["Grace"]}, headers=key), 422, "key-reused")
    refused = {"Idempotency-Key": "2026-11-22/2"}
    wrong(api.post("jobs", json={"actor": "pots"}, headers=refused), 404, "not-found")
    assert api.post("jobs", json=send, headers=refused).status_code == 201  # nothing was done under that key
    wrong(api.post("jobs", json=send, headers={"Idempotency-Key": "a b"}), 422, "bad-input")


def test_of_those_that_come_at_once_one_is_done_and_all_have_its_answer(api: TestClient) -> None:
    send, key = {"actor": "post", "args": ["Ada"]}, {"Idempotency-Key": "once"}
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: api.post("jobs", json=send, headers=key), range(4)))
    assert {(answer.status_code, answer.text) for answer in answers} == {(201, answers[0].text)}
    assert sorted("idempotent-replay" in answer.headers for answer in answers) == [False, True, True, True]
    assert api.get("jobs/count").json()["all"]["count"] == 1


def test_whatever_a_request_does_is_done_once_with_its_key(api: TestClient, database_url: str) -> None:
    dead_letters(database_url, 1)
    old = api.post("jobs", json={"actor": "post", "args": ["Ada"], "delay_ms": 60_000}).json()["id"]
    api.put("schedules/hourly", json={"actor": "post", "when": "every 1h", "args": ["Ada"]})
    mutation = {"query": 'mutation { enqueue(type: "post", payload: {to: "Ada"}) { job { id } } }'}
    writes: list[tuple[str, str, Any]] = [
        ("POST", f"jobs/{old}/edit", {"args": ["Grace"]}),
        ("POST", "schedules/hourly/run", {}),
        ("POST", "http://127.0.0.1/graphql", mutation),
        ("POST", "operations", {"action": "retry", "q": "state:failed", "expected_count": 1}),
        ("PATCH", "queues/letters", {"rate": "10/s"}),
        ("POST", "queues/letters/retry-failed", {}),
        ("POST", "queues/letters/pause", {}),
        ("POST", "feed/followers/me/seek", {"to": "now"}),
    ]
    for n, (method, path, body) in enumerate(writes):
        first, again = (api.request(method, path, json=body, headers={"Idempotency-Key": f"{n}"}) for _ in range(2))
        assert first.status_code < 300, (path, first.text)
        assert "idempotent-replay" not in first.headers
        assert (again.text, again.headers["idempotent-replay"]) == (first.text, "true")
    assert api.get("jobs/count").json()["all"]["count"] == 5
    assert len(api.get("operations").json()["items"]) == 1
    done = [entry["operation"] for entry in api.get("audit").json()["items"]]
    assert done.count("enqueue_job") == 2  # before, and by the mutation
    assert len(done) - 1 == len(set(done)) == len(writes) + 1  # and put_schedule


def test_of_what_is_sent_under_a_key_nothing_can_be_guessed_from_what_is_kept(
    api: TestClient, database_url: str
) -> None:
    for key in ("one", "other"):
        api.post("jobs", json={"actor": "post", "args": ["password=hunter2"]}, headers={"Idempotency-Key": key})
    user = {"name": "ada", "password": "correct horse battery", "role": "viewer"}
    assert api.post("users", json=user, headers={"Idempotency-Key": "user"}).status_code == 201
    wrong(api.post("users", json=user, headers={"Idempotency-Key": "user"}), 422, "bad-account")
    database = Database(database_url)
    with database.read() as connection:
        bodies = list(connection.scalars(select(repeats.c.body)))
    database.close()
    assert len(bodies) == len(set(bodies)) == 2


@pytest.mark.parametrize("moment", ["0001-01-01T01:07:16Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00"])
@pytest.mark.parametrize("bound", ["since", "until"])
def test_a_window_may_begin_and_end_at_any_moment(api: TestClient, bound: str, moment: str) -> None:
    for path in ("failures", "metrics/series", "metrics/performance", "audit", "jobs", "jobs/count"):
        answer = api.get(path, params={bound: moment})
        assert answer.status_code == 200, f"{path}: {answer.text}"


def test_a_mutation_that_was_refused_may_be_tried_again_with_its_key(api: TestClient) -> None:
    good = 'enqueue(type: "post", payload: {to: "Ada"}) { job { id } }'
    misspelt = f'mutation {{ a: {good} b: enqueue(type: "pots", payload: {{}}) {{ job {{ id }} }} }}'
    mutation = {"query": f"mutation {{ {good} }}"}
    key, path = {"Idempotency-Key": "again"}, httpx2.URL("http://127.0.0.1/graphql")
    for _ in range(2):
        refused = api.post(path, json={"query": misspelt}, headers=key)
        assert [error["extensions"]["type"] for error in refused.json()["errors"]] == [URN + "not-found"]
        assert "idempotent-replay" not in refused.headers
    first, again = (api.post(path, json=mutation, headers=key) for _ in range(2))
    assert first.json().keys() == {"data"}, "GraphQL: errors are absent, or there are some"
    assert "idempotent-replay" not in first.headers
    assert (again.text, again.headers["idempotent-replay"]) == (first.text, "true")
    assert api.get("jobs/count").json()["all"]["count"] == 1


def test_a_console_whose_connections_are_all_in_use_is_unavailable_not_an_error(settings: Settings) -> None:
    app = build(settings)
    engine = create_engine("sqlite://", poolclass=QueuePool, pool_size=1, max_overflow=0, pool_timeout=0.01)

    @app.get("/busy", dependencies=[Depends(everybody)])
    def busy() -> None:
        with engine.connect(), engine.connect():
            pass

    with TestClient(app, base_url="http://127.0.0.1") as client:
        answer = client.get("/busy")
        assert "in use" in wrong(answer, 503, "ledger-unavailable")
        assert "retry-after" in answer.headers
        told = client.get("/busy", headers={"accept": "text/html"})
        assert (told.status_code, "The ledger is busy" in told.text) == (503, True)


def test_what_nobody_foresaw_is_answered_as_everything_is_and_found_in_the_log_by_its_id(
    settings: Settings,
) -> None:
    app = build(settings)

    @app.get("/broken", dependencies=[Depends(everybody)])
    def broken() -> None:
        raise ZeroDivisionError

    told: list[MutableMapping[str, Any]] = []
    with TestClient(app, base_url="http://127.0.0.1", headers={"x-request-id": "request-17"}) as client:
        for media in ("application/json", "text/html"):
            with capture_logs(processors=[merge_contextvars]) as lines:
                answer = client.get("/broken", headers={"accept": media})
            told += lines
            assert (answer.status_code, answer.headers["x-request-id"]) == (500, "request-17")
            assert "default-src 'none'" in answer.headers["content-security-policy"]
            assert answer.headers["cache-control"] == "no-store"
        assert "look for request request-17" in answer.text
    assert [(line["event"], line["request"]) for line in told] == [("request.failed", "request-17")] * 2


def test_a_moment_beyond_all_years_is_answered(api: TestClient) -> None:
    for moment in ("0001-01-01", "0001-01-01T00:00+05:00", "9999-12-31", "9999-12-31T23:00-05:00"):
        asked = api.get("jobs", params={"q": f"since:{moment} until:{moment} word"})
        assert (asked.status_code, asked.json()["items"]) == (200, []), asked.text


def test_queue_counts_have_the_shape_of_bull_dashboards(api: TestClient, database_url: str) -> None:
    dead_letters(database_url, 2)
    counts = httpx2.URL("http://127.0.0.1/api/admin/queues")
    assert api.get(counts).json() == {
        "queues": {"letters": {"waiting": 0, "active": 0, "completed": 0, "failed": 2, "delayed": 0}}
    }


def test_the_feed_is_read_by_cursor(api: TestClient) -> None:
    after = api.get("feed").json()["after"]
    id = api.post("jobs", json={"actor": "post", "args": ["Ada"]}).json()["id"]
    api.post(f"jobs/{id}/cancel")
    page = api.get("feed", params={"after": after}).json()
    assert [(event["event"], event["job"]) for event in page["items"]] == [("cancelled", id)]
    assert api.get("feed", params={"after": page["after"]}).json()["items"] == []
    wrong(api.get("feed", params={"after": "nowhere"}), 422, "bad-cursor")
    assert api.post("feed/stop").json() == {"kept": False}
    wrong(api.get("feed", params={"after": after}), 410, "events-lost")


def test_a_schedule_is_put_previewed_run_and_removed(api: TestClient) -> None:
    plan = {"actor": "post", "when": "every 1h", "args": ["Ada"]}
    assert api.put("schedules/hourly", json=plan).json() == {
        "key": "hourly",
        "change": "added",
        "words": "every hour",
    }
    assert api.put("schedules/hourly", json=plan).json()["change"] == "same"
    assert len(api.get("schedules/hourly/preview", params={"count": 3}).json()["fires"]) == 3
    assert api.post("schedules/hourly/run").json()["job"] is not None
    assert api.post("schedules/hourly/pause").json()["state"] == "paused"
    assert api.get("schedules/hourly").json()["state"] == "paused"
    assert api.delete("schedules/hourly").json()["state"] == "removed"
    wrong(api.get("schedules/hourly"), 404, "schedule-not-found")
    wrong(api.put("schedules/hourly", json=plan | {"when": "sometimes"}), 422, "bad-schedule")


def graphql(api: TestClient, query: str, **variables: Any) -> Any:
    answer = api.post(httpx2.URL("http://127.0.0.1/graphql"), json={"query": query, "variables": variables})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_graphql_enqueues_and_answers_as_the_memo_has_it(api: TestClient, database_url: str) -> None:
    enqueue = """mutation Send($at: DateTime) {
        enqueue(type: "post", payload: {to: "Ada"}, priority: 80, scheduledAt: $at) {
            job { id type queue status priority payload result error attempts maxAttempts workerId scheduledAt }
        }
    }"""
    job = graphql(api, enqueue, at="2100-01-01T00:00:00Z")["data"]["enqueue"]["job"]
    assert (job["type"], job["queue"], job["status"], job["priority"]) == ("post", "letters", "PENDING", 90)
    assert (job["payload"], job["result"], job["attempts"], job["maxAttempts"]) == ({"to": "Ada"}, None, 0, 3)
    assert api.get(f"jobs/{job['id']}").json()["state"] == "delayed"
    dead_letters(database_url, 2)
    asked = "{ queueStats { queueName pending failed24h } recentFailedJobs(limit: 1) { status error } }"
    data = graphql(api, asked)["data"]
    assert [(x["queueName"], x["pending"]) for x in data["queueStats"]] == [("letters", 1)]
    [failed] = data["recentFailedJobs"]
    assert failed["status"] == "FAILED"
    assert failed["error"].startswith("ValueError: ")


def test_graphql_says_what_is_wrong_and_has_bounds(api: TestClient) -> None:
    [error] = graphql(api, 'mutation { enqueue(type: "pots", payload: {}) { job { id } } }')["errors"]
    assert error["extensions"]["type"] == URN + "not-found"
    assert "did you mean post?" in error["message"]
    [error] = graphql(api, "{ recentFailedJobs(limit: 0) { id } }")["errors"]
    assert error["extensions"]["type"] == URN + "bad-input"
    deep = "{ __schema { types { fields { type { fields { type { fields { type { fields { name } } } } } } } } } }"
    long = "{ " + "queueStats { queueName } " * 700 + "}"
    many = "{ " + " ".join(f"a{n}: queueStats {{ queueName }}" for n in range(40)) + " }"
    for query in (deep, many, long, "{ nothing }", "{"):
        answer = graphql(api, query)
        assert answer["data"] is None
        assert answer["errors"]
    assert graphql(api, "{ __schema { queryType { name } } }")["data"]


def test_a_token_is_made_used_and_revoked_and_the_audit_trail_has_it(api: TestClient) -> None:
    made = api.post("tokens", json={"name": "billing-api", "role": "operator", "queues": ["letters"]}).json()
    headers = {"Authorization": f"Bearer {made['token']}"}
    me = api.get("me", headers=headers).json()
    assert (me["name"], me["role"], me["queues"]) == ("billing-api", "operator", ["letters"])
    assert made["token"] not in api.get("tokens").text
    assert api.delete(f"tokens/{made['id']}").json() == {"id": made["id"]}
    wrong(api.get("me", headers=headers), 401, "not-authenticated")
    done = api.get("audit").json()["items"]
    assert [entry["operation"] for entry in done] == ["revoke_token", "create_token"]
    assert {entry["name"] for entry in done} == {"local"}
    assert made["token"] not in api.get("audit/export").text
    assert api.get("audit/verify").json()["bad"] is None
    assert api.get(f"audit/{done[0]['seq']}").json() == done[0]
    wrong(api.post("tokens", json={"name": "x", "role": "operator", "queues": ["a*b"]}), 422, "bad-account")


def test_whose_token_it_is_is_the_producer(api: TestClient) -> None:
    made = api.post("tokens", json={"name": "billing-api", "role": "operator"}).json()
    headers = {"Authorization": f"Bearer {made['token']}"}
    sent = api.post("jobs", json={"actor": "bill", "args": ["Ada"]}, headers=headers)
    assert sent.status_code == 201, sent.text
    assert api.get(f"jobs/{sent.json()['id']}").json()["producer"].startswith("billing-api@")

"""Who is confined to some queues sees and touches no job of another, whatever they ask for."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import dramatiq
import httpx2
import pytest
from starlette.testclient import TestClient

from broker import Broker
from broker import build as build_broker
from control import Control, alerts, jobs, operations, queues, tokens
from control.health import Rules, check
from control.permissions import SCOPED, Role, writes
from control.who import Who
from dashboard.app import build
from errors import Denied, JobNotFound
from ledger import open_ledger
from ledger.bookkeeping import Bookkeeping
from ledger.operations import Deed
from ledger.queries import Queries
from ledger.schedule_queries import ScheduleQueries
from ledger.scope import Scope
from ledger.search import Filter
from ledger.states import Outcome, Reason
from middleware.workflow import wait, workflow
from settings import Settings
from tests.ledgers import claim, join, new_job, run

pytestmark = pytest.mark.one_database

ADA = Who("ada", "api", Role.ADMIN, queues=("billing.*",))
OURS, THEIRS = "billing.eu", "payroll"
API = "/api/v1/"


@dataclass
class Made:
    """What there is on one queue."""

    queue: str
    waiting: str
    dead: str
    done: str
    running: str
    flow: str
    fingerprint: str
    operation: str
    worker: int


def everything_on(queue: str, broker: Broker, url: str) -> Made:
    """A job of every kind, with its queue's name in all that it carries and leaves."""
    ledger = open_ledger(url, road="embedded")
    session = ledger.session("test")
    worker = join(session, queue)
    message = {"queue_name": queue, "actor_name": f"on_{queue}", "args": [f"carried by {queue}"], "kwargs": {}}
    fields = {"queue": queue, "actor": f"on_{queue}"}
    made = [new_job(**fields, body=json.dumps(message | {"message_id": queue}).encode()) for _ in range(4)]
    session.enqueue([made[0]])
    wrong = {"error_type": f"Wrong_{queue}", "error_message": f"said by {queue}"}
    run(session, worker, made[1], Outcome.FAILED, reason=Reason.RETRIES_EXHAUSTED, traceback=f"in {queue}", **wrong)
    run(session, worker, made[2], result=json.dumps(f"made by {queue}").encode(), result_ttl_ms=3_600_000)
    session.enqueue([made[3]])
    held = claim(session, worker, made[3])
    session.progress([(held.id, 1.0, 2.0, f"told by {queue}")])
    session.close()
    books = Bookkeeping(url, keep_days=1)
    books.group()
    books.close()
    flow = workflow(f"flow_of_{queue}").then(broker.get_actor(f"on_{queue}")).then(wait("signed")).start()
    control, asked = Control(url, "embedded"), Queries(url)
    group = asked.within(Scope((queue,))).failures()[0].fingerprint
    wanted = Filter(queues=(queue,), scopes=(queue,) if queue == OURS else ())
    operation = operations.start(control, asked, Deed.CANCEL, wanted, by="boss")
    queues.pause(control, queue, by=f"the boss of {queue}")
    control.close()
    asked.close()
    waiting, dead, done, running = (job.id for job in made)
    return Made(queue, waiting, dead, done, running, flow.id, group, operation.id, worker)


@pytest.fixture
def settings(database_url: str) -> Settings:
    return Settings(database_url=database_url, health="waiting=0/9, failed=0/9")


@pytest.fixture
def broker(settings: Settings) -> Broker:
    broker = build_broker(settings)
    for queue in (OURS, THEIRS):

        @dramatiq.actor(broker=broker, queue_name=queue, actor_name=f"on_{queue}")
        def act() -> None: ...

    return broker


@pytest.fixture
def there(settings: Settings, broker: Broker) -> dict[str, Made]:
    """The same on either queue; the alerts of both stand."""
    made = {queue: everything_on(queue, broker, settings.database_url) for queue in (OURS, THEIRS)}
    url = settings.database_url
    control, asked, schedules = Control(url, "embedded"), Queries(url), ScheduleQueries(url)
    alerts.judge(control, check(asked, schedules, Rules.of(settings)), ["log"], calm_s=0)
    for opened in (control, asked, schedules):
        opened.close()
    return made


@pytest.fixture
def client(settings: Settings, broker: Broker) -> Iterator[TestClient]:
    """As a program with an admin's token for ``billing.*``."""
    control = Control(settings.database_url, "embedded")
    made = tokens.create(control, "ada", Role.ADMIN, queues=["billing.*"], expires_in=None, by="test")
    control.close()
    bearer = {"authorization": f"Bearer {made.token}"}
    with TestClient(build(settings, broker=broker), base_url="http://127.0.0.1", headers=bearer) as opened:
        yield opened


def of(made: Made, path: str) -> str:
    """The path with what it names of this queue."""
    kinds = {"flows": made.flow, "operations": made.operation, "workers": str(made.worker)}
    id = kinds.get(path.removeprefix(API).partition("/")[0], made.dead)
    names = {"id": id, "fingerprint": made.fingerprint, "queue": made.queue, "seq": "1"}
    return re.sub(r"\{(\w+)\}", lambda found: names.get(found[1], "x"), path)


def traces(answer: httpx2.Response, made: Made) -> list[str]:
    """What of theirs is in an answer, but for what was asked for by its name."""
    asked = str(answer.request.url)
    marks = [str(mark) for mark in vars(made).values() if isinstance(mark, str)]
    return [mark for mark in marks if mark in answer.text and mark not in asked]


def reads(client: TestClient) -> Iterator[tuple[str, str]]:
    """Every operation that reads, with its path."""
    document: Any = client.get(API + "openapi.json").json()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            name = operation["operationId"]
            if method == "get" and name != "follow_events":
                assert not writes(name)
                yield name, path


def test_whatever_is_read_tells_nothing_of_other_queues(client: TestClient, there: dict[str, Made]) -> None:
    ours, theirs = there[OURS], there[THEIRS]
    told = {}
    for name, path in reads(client):
        answer = client.get(of(ours, path))
        assert (answer.status_code == 403) is (name not in SCOPED), (name, answer.text)
        if name != "get_openapi":  # whose examples are the same for all
            assert traces(answer, theirs) == [], (name, answer.text)
        told[name] = answer.text
    for name in ("list_jobs", "list_dead_letters", "list_failures", "list_flows", "list_workers", "list_alerts"):
        assert OURS in told[name], name
    for name in ("get_flow", "get_worker", "list_queues", "get_health", "export_jobs", "get_job", "list_suggestions"):
        assert OURS in told[name], name
    assert [one["id"] for one in json.loads(told["list_operations"])["items"]] == [ours.operation]
    assert json.loads(told["count_jobs"])["all"]["count"] == 5


def test_what_is_named_of_other_queues_is_not_there(client: TestClient, there: dict[str, Made]) -> None:
    theirs = there[THEIRS]
    for name, path in reads(client):
        if "{" in path and name in SCOPED and name != "get_audit":
            answer = client.get(of(theirs, path))
            assert answer.status_code in (403, 404), (name, answer.text)
            assert traces(answer, theirs) == [], (name, answer.text)
    for query in (f"queue={THEIRS}", f"q=queue:{THEIRS}", f"q=id:{theirs.dead}", f"q=worker:{theirs.worker}"):
        assert client.get(f"{API}jobs?{query}").json()["items"] == []
        assert client.get(f"{API}jobs/count?{query}").json()["all"]["count"] == 0
        assert client.get(f"{API}jobs/export?{query}").text == ""
    for path in ("failures", "dead-letters", "metrics/series"):
        assert traces(client.get(f"{API}{path}?queue={THEIRS}"), theirs) == []
    series = client.get(f"{API}metrics/series?queue={THEIRS}").json()
    assert sum(point["completed"] + point["failed"] for point in series["points"]) == 0
    prefix = theirs.dead[:8]  # which several jobs share
    assert traces(client.get(f"{API}jobs/{prefix}"), theirs) == []


def test_what_is_done_is_done_to_these_queues_only(
    client: TestClient, there: dict[str, Made], settings: Settings
) -> None:
    theirs = there[THEIRS]
    control, asked = Control(settings.database_url, "embedded"), Queries(settings.database_url)
    for made in there.values():
        operations.cancel(control, made.operation, by="boss")

    def looks() -> object:
        counted = asked.count_states(Filter(queues=(THEIRS,)))
        paused = next(x.paused for x in asked.queues() if x.name == THEIRS)
        alert = next(x for x in asked.alerts() if (x.queue, x.rule) == (THEIRS, "failed"))
        return counted, paused, asked.changed_rules(), alert.muted_until, asked.flow_state(theirs.flow)

    before = looks()
    document: Any = client.get(API + "openapi.json").json()
    bodies: dict[str, Any] = {
        "enqueue_job": {"actor": f"on_{THEIRS}"},
        "edit_job": {"args": []},
        "clean_queue": {"older_than_s": 0, "state": "failed"},
        "change_queue": {"concurrency": 1},
        "retry_failures": {"expected_count": 0},
        "discard_failures": {"expected_count": 0},
        "start_operation": {"action": "discard", "ids": [theirs.dead], "expected_count": 0},
        "signal_flow": {"data": 1},
        "mute_alert": {"queue": THEIRS, "rule": "failed"},
        "unmute_alert": {"queue": THEIRS, "rule": "failed"},
        "query_graphql": {"query": f'mutation {{ enqueue(type: "on_{THEIRS}", payload: {{}}) {{ job {{ id }} }} }}'},
    }
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if method == "get":
                continue
            name = operation["operationId"]
            answer = client.request(method, of(theirs, path), json=bodies.get(name, {}))
            begun = {"start_operation", "retry_failures", "discard_failures", "query_graphql"}  # of nothing
            assert name in begun or answer.status_code >= 400, (name, answer.text)
            assert traces(answer, theirs) == [] or name in bodies, (name, answer.text)
    while operations.go_on(control):
        pass
    assert looks() == before
    control.close()
    asked.close()


def test_graphql_and_pages_tell_nothing_of_other_queues(client: TestClient, there: dict[str, Made]) -> None:
    ours, theirs = there[OURS], there[THEIRS]
    query = "{ queueStats { queueName pending failed24h } recentFailedJobs(limit: 9) { id queue type payload error } }"
    answer = client.post("/graphql", json={"query": query})
    assert [one["id"] for one in answer.json()["data"]["recentFailedJobs"]] == [ours.dead]
    assert [one["queueName"] for one in answer.json()["data"]["queueStats"]] == [OURS]
    assert traces(answer, theirs) == []
    pages = ("/", "/jobs", "/queues", "/failures", "/flows", "/workers", "/operations", "/audit", "/jobs/counts")
    for page in (*pages, f"/jobs/{theirs.dead}", f"/queues/{THEIRS}", f"/flows/{theirs.flow}"):
        answer = client.get(page, headers={"accept": "text/html"})
        assert answer.status_code == 200 or page not in pages, page
        assert traces(answer, theirs) == [], page


def test_the_verbs_see_to_it_themselves(there: dict[str, Made], database_url: str) -> None:
    theirs = there[THEIRS]
    control = Control(database_url, "embedded")
    with pytest.raises(JobNotFound):
        jobs.cancel(control, theirs.waiting, by=ADA)
    for verb in (queues.pause, queues.resume, queues.drain, queues.restore, queues.retry_failed):
        with pytest.raises(Denied, match=r"billing\.\*"):
            verb(control, THEIRS, by=ADA)
    with pytest.raises(Denied):
        alerts.mute(control, THEIRS, "failed", 60, by=ADA)
    control.close()

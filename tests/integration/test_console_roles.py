"""What somebody may through the console's doors, by role and by name: what is seen, what is sent, what is begun."""

import json
from collections.abc import Iterator

import dramatiq
import httpx2
import pytest
from dramatiq.message import Message
from pydantic import SecretStr
from starlette.testclient import TestClient

from broker import Broker
from broker import build as build_broker
from control import Control, tokens
from control.permissions import Role
from control.schedules import put
from dashboard.app import build
from ledger import open_ledger
from ledger.bookkeeping import Bookkeeping
from ledger.flows.states import StepEnd
from ledger.gauges import gauges
from ledger.records import Keep, Ticket
from ledger.schedules import Schedule
from ledger.states import Outcome, Reason
from metrics.catalogue import LETTERS
from middleware.workflow import workflow
from settings import Settings
from tests.ledgers import claim, finish, join, new_job, run

pytestmark = pytest.mark.one_database

API = "/api/v1/"
SAID = "the card 4711 of Ada was refused"


@pytest.fixture
def settings(database_url: str) -> Settings:
    """The process itself may send what the people at its doors may not."""
    return Settings(database_url=database_url, producer="billing-api", keys=SecretStr(f"k1:{'A' * 43}="))


@pytest.fixture
def broker(settings: Settings) -> Broker:
    broker = build_broker(settings)

    @dramatiq.actor(broker=broker, queue_name="letters", allowed_producers={"billing-api"})
    def bill(to: str) -> None: ...

    @dramatiq.actor(broker=broker, queue_name="payroll")
    def pay(to: str = "Ada") -> None: ...

    @dramatiq.actor(broker=broker, queue_name="letters", sensitive=True)
    def diagnose(text: str) -> None: ...

    @dramatiq.actor(broker=broker, queue_name="letters")
    def remind(password: str) -> None: ...

    return broker


@pytest.fixture
def client(settings: Settings, broker: Broker) -> Iterator[TestClient]:
    with TestClient(build(settings, broker=broker), base_url="http://127.0.0.1") as opened:
        yield opened


@pytest.fixture
def control(settings: Settings) -> Iterator[Control]:
    control = Control(settings.database_url, "embedded")
    yield control
    control.close()


def let_in(client: TestClient, control: Control, role: Role, name: str = "ada", *queues: str) -> None:
    made = tokens.create(control, name, role, queues=list(queues), expires_in=None, by="test")
    client.headers["authorization"] = f"Bearer {made.token}"


def page(client: TestClient, path: str, **form: str) -> httpx2.Response:
    headers = {"accept": "text/html"}
    return client.post(path, data=form, headers=headers) if form else client.get(path, headers=headers)


def test_what_the_console_sends_is_sent_by_whoever_asks(client: TestClient, control: Control, broker: Broker) -> None:
    let_in(client, control, Role.OPERATOR)
    sent = broker.get_actor("bill").send_with_options(args=("Ada",), delay=3_600_000)
    job = broker.queries.job(sent.message_id)
    assert job is not None
    plan = {"actor": "bill", "when": "every 1h", "args": ["Ada"]}
    form = {"key": "hourly", "actor": "bill", "when": "every 1h", "args": '["Ada"]'}
    may_not = "producer 'ada' may not send to it"
    assert may_not in client.put(f"{API}schedules/hourly", json=plan).json()["detail"]
    assert may_not.replace("'", "&#39;") in page(client, "/new/schedule", **form).text
    assert may_not in client.post(f"{API}jobs/{job.id}/edit", json={"args": ["Bob"]}).json()["detail"]
    told = page(client, f"/jobs/{job.id}/edit", args='["Bob"]', kwargs="{}").text
    assert may_not.replace("'", "&#39;") in told
    let_in(client, control, Role.OPERATOR, "billing-api")
    assert client.put(f"{API}schedules/hourly", json=plan).json()["change"] == "added"
    assert client.post(f"{API}schedules/hourly/run").json()["job"]
    let_in(client, control, Role.OPERATOR)
    assert may_not in client.post(f"{API}schedules/hourly/run").json()["detail"]
    assert may_not.replace("'", "&#39;") in page(client, "/schedules/hourly/run", go="on").text
    assert may_not.replace("'", "&#39;") in page(client, "/schedules/hourly/edit", **form).text
    assert client.get(f"{API}jobs/count").json()["all"]["count"] == 2


def test_a_name_that_is_no_producers_sends_too(client: TestClient, control: Control) -> None:
    let_in(client, control, Role.OPERATOR, "ada@example.org")
    sent = client.post(f"{API}jobs", json={"actor": "pay", "args": ["Ada"]})
    assert sent.status_code == 201, sent.text
    assert client.get(f"{API}jobs/{sent.json()['id']}").json()["producer"].startswith("ada-example.org.")


def test_what_errors_said_is_for_those_who_may_see_what_jobs_carry(
    client: TestClient, control: Control, broker: Broker, database_url: str
) -> None:
    let_in(client, control, Role.OPERATOR)
    after = client.get(f"{API}feed").json()["after"]
    session = open_ledger(database_url, road="embedded").session("test")
    worker = join(session, "letters", "payroll")
    error = {"reason": Reason.RETRIES_EXHAUSTED, "error_type": "Refused", "error_message": f"{SAID}: token=hush"}
    dead = new_job()
    run(session, worker, dead, Outcome.FAILED, traceback=f"token=hush {SAID}", **error)
    flow = workflow("payday").then(broker.get_actor("pay")).start()
    [step] = client.get(f"{API}jobs?actor=pay").json()["items"]
    [claim] = session.claim(worker, [Ticket(step["id"], 1, "payroll")])
    finish(session, worker, claim, Outcome.FAILED, step=StepEnd(flow.id, "pay"), **error)
    session.close()
    books = Bookkeeping(database_url, keep_days=1)
    books.group()
    books.close()
    group = client.get(f"{API}failures").json()[0]["fingerprint"]
    answers = (
        "feed?after=" + after,
        "flows/" + flow.id,
        "failures",
        "failures/" + group,
        "overview",
        "jobs/" + dead.id,
    )
    pages = ("/flows/" + flow.id, "/failures", "/failures/" + group, "/", "/jobs/" + dead.id)
    for role in (Role.VIEWER, Role.PAYLOAD_VIEWER):
        let_in(client, control, role)
        for path in (*(API + name for name in answers), *pages):
            told = (page(client, path) if path in pages else client.get(path)).text
            assert "Refused" in told or "flows/" in path, path
            assert ("of Ada was refused" in told) == (role is Role.PAYLOAD_VIEWER), path
            assert "hush" not in told, path


def test_who_may_not_see_what_jobs_carry_cannot_search_it(client: TestClient, control: Control) -> None:
    let_in(client, control, Role.VIEWER)
    for query in ("args.to:Ada", "Ada", "error:card", "tag:x"):
        told = page(client, f"/jobs?q={query}")
        assert (told.status_code, "who may see what jobs carry" in told.text) == (200, True)
        assert page(client, f"/jobs/counts?q={query}").status_code == 403
        saved = page(client, "/views", name="found", query=f"q={query}")
        assert "who may see what jobs carry" in saved.text
    assert "who may see what jobs carry" not in page(client, "/jobs?q=state:failed").text


def test_whoever_is_confined_runs_actors_of_their_queues_only(client: TestClient, control: Control) -> None:
    let_in(client, control, Role.OPERATOR, "ada", "letters")
    for body in ({"actor": "pay"}, {"actor": "pay", "queue": "letters"}, {"actor": "pya", "queue": "letters"}):
        answer = client.post(f"{API}jobs", json=body | {"args": ["Ada"]})
        assert answer.status_code == 404, answer.text
        assert "pay?" not in answer.text
        assert "there are: pay" not in answer.text


def test_looking_at_the_feed_turns_it_on_for_those_only_who_may(client: TestClient, control: Control) -> None:
    let_in(client, control, Role.VIEWER)
    refused = client.get(f"{API}feed")
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:hareline:problem:illegal-transition")
    let_in(client, control, Role.OPERATOR, "boss")
    assert client.get(f"{API}feed/followers").json()["kept"] is False
    assert client.get(f"{API}feed").status_code == 200
    assert client.get(f"{API}feed").status_code == 200
    entries = client.get(f"{API}audit").json()["items"]
    begun = [(one["name"], one["count"]) for one in entries if "feed on" in json.dumps(one)]
    assert begun == [("boss", 1)]
    let_in(client, control, Role.VIEWER)
    assert client.get(f"{API}feed").json()["items"] == []


def test_a_console_that_is_read_only_turns_nothing_on(settings: Settings, broker: Broker, control: Control) -> None:
    looked_at = settings.model_copy(update={"console_read_only": True})
    with TestClient(build(looked_at, broker=broker), base_url="http://127.0.0.1") as client:
        let_in(client, control, Role.ADMIN)
        assert client.get(f"{API}feed").status_code == 409


def test_a_form_with_a_secret_is_for_who_may_reveal_it_and_the_journal_says_who_did(
    client: TestClient, control: Control, broker: Broker
) -> None:
    sealed = broker.enqueue(broker.get_actor("diagnose").message("a cold")).job_id
    hidden = broker.enqueue(broker.get_actor("remind").message(password="hunter2")).job_id
    let_in(client, control, Role.OPERATOR)
    for id in (sealed, hidden):
        assert page(client, f"/jobs/{id}/edit").status_code == 403
    let_in(client, control, Role.ADMIN, "boss")
    for id, secret in ((sealed, "a cold"), (hidden, "hunter2")):
        form = page(client, f"/jobs/{id}/edit")
        assert (form.status_code, secret in form.text) == (200, True)
        told = [(line["event"], line["who"]) for line in client.get(f"{API}jobs/{id}").json()["timeline"]]
        assert ("revealed", "api:boss") in told
    sent = page(client, f"/jobs/{sealed}/edit", args='["a cold"]', kwargs="{}")
    body = json.loads(broker.queries.job(sent.url.path.rpartition("/")[2]).body)  # type: ignore[union-attr]
    assert broker.encryption.opened(Message(**body))[0].args == ("a cold",)


def test_a_form_is_not_filled_with_what_does_not_open(
    client: TestClient, control: Control, broker: Broker, settings: Settings
) -> None:
    other = build_broker(settings.model_copy(update={"keys": SecretStr(f"k2:{'B' * 42}A=")}))

    @dramatiq.actor(broker=other, queue_name="letters", sensitive=True)
    def diagnose(text: str) -> None: ...

    id = other.enqueue(diagnose.message("a cold")).job_id
    other.close()
    let_in(client, control, Role.ADMIN)
    form = page(client, f"/jobs/{id}/edit")
    assert (form.status_code, "encrypted under k2" in form.text, "&lt;encrypted" in form.text) == (409, True, False)


def test_a_schedule_shows_no_secret_but_to_who_may_reveal_it(
    client: TestClient, control: Control, broker: Broker
) -> None:
    kept = Schedule("nightly", "remind", "every 1h", kwargs={"password": "hunter2"})
    put(control, [kept], judge=broker, by="test")
    let_in(client, control, Role.OPERATOR)
    seen = page(client, "/schedules/nightly")
    assert (seen.status_code, "hunter2" in seen.text, "[redacted]" in seen.text) == (200, False, True)
    assert page(client, "/schedules/nightly/edit").status_code == 403
    let_in(client, control, Role.ADMIN, "boss")
    assert "hunter2" in page(client, "/schedules/nightly/edit").text
    [entry, *_] = client.get(f"{API}audit").json()["items"]
    assert (entry["name"], json.loads(entry["target"])) == ("boss", {"schedule": "nightly"})


def test_what_a_running_job_tells_of_itself_is_for_who_may_see_what_jobs_carry(
    client: TestClient, control: Control, database_url: str
) -> None:
    session = open_ledger(database_url, road="embedded").session("test")
    worker = join(session)
    session.enqueue([job := new_job()])
    claim(session, worker, job)
    session.progress([(job.id, 1, 2, SAID)])
    session.close()
    for role in (Role.VIEWER, Role.PAYLOAD_VIEWER):
        let_in(client, control, role)
        for answer in (client.get(f"{API}jobs/{job.id}"), page(client, f"/jobs/{job.id}")):
            assert (answer.status_code, SAID in answer.text) == (200, role is Role.PAYLOAD_VIEWER)


def test_what_is_sent_by_whichever_door_is_in_the_audit_trail(client: TestClient, control: Control) -> None:
    let_in(client, control, Role.OPERATOR)
    first = client.post(f"{API}jobs", json={"actor": "pay", "unique": {"within": 60}}).json()
    assert client.post(f"{API}jobs", json={"actor": "pay", "unique": {"within": 60}}).json()["duplicate"]
    mutation = 'mutation { enqueue(type: "pay", payload: {to: "Grace"}) { job { id } } }'
    other = client.post("/graphql", json={"query": mutation}).json()["data"]["enqueue"]["job"]["id"]
    client.put(f"{API}schedules/payday", json={"actor": "pay", "when": "every 1h"})
    ticked = client.post(f"{API}schedules/payday/run").json()["job"]
    told = [(x["operation"], json.loads(x["target"])) for x in client.get(f"{API}audit").json()["items"]]
    assert ("run_schedule", {"schedule": "payday"}) in told
    assert [to["jobs"] for what, to in told if what == "enqueue_job"] == [[other], [first["id"]]]
    assert client.get(f"{API}jobs/{ticked}").status_code == 200


def test_dead_letters_that_were_moved_to_the_history_are_found_counted_and_retried(
    client: TestClient, control: Control, database_url: str
) -> None:
    session = open_ledger(database_url, road="embedded").session("test")
    worker = join(session, "legacy")
    for reason in (Reason.REFUSED, Reason.RETRIES_EXHAUSTED, Reason.REFUSED):
        run(session, worker, new_job(queue="legacy"), Outcome.FAILED, reason=reason, error_type="E")
    session.retain({}, Keep(failed=0, failed_s=0), history_s=1e9)
    session.close()
    assert {labels: value for metric, labels, value in gauges(database_url) if metric is LETTERS} == {
        ("legacy", "refused"): 2.0,
        ("legacy", "retries_exhausted"): 1.0,
    }
    let_in(client, control, Role.OPERATOR)
    assert client.get(f"{API}queues/legacy").json()["failed"] == 3
    assert "/queues/legacy" in page(client, "/").text
    assert "3 dead letters" in page(client, "/queues/legacy/retry").text
    assert client.post(f"{API}queues/legacy/retry-failed", json={}).json() == {"queue": "legacy", "jobs": 3}
    assert [labels for metric, labels, _ in gauges(database_url) if metric is LETTERS] == []

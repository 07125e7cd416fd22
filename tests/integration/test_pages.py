"""The console's pages as the server sends them, on both databases: they render, and nothing in them acts."""

import json
import re
from collections.abc import Iterator
from datetime import datetime
from html import unescape
from html.parser import HTMLParser

import dramatiq
import httpx2
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from broker import Broker
from broker import build as build_broker
from control import Control
from control.operations import go_on
from control.permissions import Role
from control.queues import change
from control.saved_views import remove, save
from control.schedules import put, reconcile
from control.users import add
from dashboard.app import build
from errors import BadInput, LedgerUnavailable, NotFound, QuestionTooSlow
from ledger import open_ledger
from ledger.ledger import Session
from ledger.orders import Knob
from ledger.schedules import Schedule
from ledger.states import Outcome, Reason, State
from middleware.rates import Rate
from middleware.workflow import wait, workflow
from settings import Settings
from tests.hostile import CORPUS
from tests.ledgers import claim, finish, join, new_job, run
from tests.planting import plant

pytestmark = pytest.mark.one_database

LISTS = (
    *(
        "/",
        "/jobs",
        "/jobs/counts",
        "/failures",
        "/flows",
        "/schedules",
        "/new/schedule",
        "/queues",
        "/workers",
        "/limits",
    ),
    *("/operations", "/operations/new?q=state:failed", "/audit", "/audit/verify", "/settings", "/settings/accounts"),
)


@pytest.fixture
def settings(database_url: str) -> Settings:
    return Settings(database_url=database_url, console_insecure_local=True, console_environment="staging")


@pytest.fixture
def broker(settings: Settings) -> Broker:
    broker = build_broker(settings)

    @dramatiq.actor(broker=broker, queue_name="letters", rate_limit=Rate(5))
    def post(to: str, copies: int = 1) -> None: ...

    @dramatiq.actor(broker=broker, queue_name="letters")
    def answer(post: None) -> None: ...

    return broker


@pytest.fixture
def console(settings: Settings, broker: Broker) -> Iterator[TestClient]:
    with TestClient(
        build(settings, broker=broker), base_url="http://127.0.0.1", headers={"Accept": "text/html"}
    ) as client:
        yield client


@pytest.fixture
def session(settings: Settings) -> Iterator[Session]:
    session = open_ledger(settings.database_url, road="embedded").session("test")
    yield session
    session.close()


@pytest.fixture
def control(settings: Settings) -> Iterator[Control]:
    control = Control(settings.database_url, "embedded")
    yield control
    control.close()


class Page(HTMLParser):
    """What a browser would find in a page that acts, looks elsewhere, or leads somewhere."""

    def __init__(self, answer: httpx2.Response) -> None:
        super().__init__()
        self.acts: list[str] = []
        self.links: set[str] = set()
        self.forms: list[str] = []
        self.text = ""
        self._script = False
        self.feed(answer.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag in ("script", "style", "img", "iframe", "object", "embed", "base"):
            self._script = tag in ("script", "style")
            if not (given.get("src") or "").startswith("/static/"):
                self.acts.append(f"<{tag}>")
        for name, value in attrs:
            if name.startswith("on") or name in ("style", "srcdoc", "hx-on", "hx-vals"):
                self.acts.append(f"{tag} {name}")
            if name in ("href", "src", "action", "formaction", "hx-get") and value:
                if not value.startswith(("/", "#")) or value.startswith("//"):
                    self.acts.append(f"{tag} {name}={value}")
                self.links.add(value)
            if name == "action":
                self.forms.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        self._script = False

    def handle_data(self, data: str) -> None:
        if self._script and data.strip():
            self.acts.append("an inline script")
        self.text += data


def seen(console: TestClient, path: str) -> Page:
    answer = console.get(path)
    assert answer.status_code == 200, f"{path}: {answer.status_code} {answer.text[-2000:]}"
    assert answer.headers["content-type"].startswith("text/html")
    page = Page(answer)
    assert page.acts == [], path
    return page


@pytest.mark.parametrize("path", LISTS)
def test_a_page_of_an_empty_ledger_says_what_to_do(console: TestClient, path: str) -> None:
    page = seen(console, path)
    assert len(page.text) > 100 or path == "/jobs/counts"


#: Files, and pages of another project: tests/integration/test_dramatiq_pages.py has these.
_OTHERS = ("/static/", "/dramatiq/", "#")


def test_hostile_texts_are_shown_and_do_nothing(
    console: TestClient, session: Session, control: Control, broker: Broker
) -> None:
    jobs = {text: plant(session, control, broker, text) for text in CORPUS}
    links: set[str] = set()
    for path in (*LISTS, *(f"/jobs/{id}" for ids in jobs.values() for id in ids)):
        links |= {link for link in seen(console, path).links if not link.startswith(_OTHERS)}
    for link in sorted(links):
        answer = console.get(link)
        assert answer.status_code in (200, 404, 405), f"{link}: {answer.status_code} {answer.text[-1500:]}"
        if "text/html" in answer.headers["content-type"]:
            assert Page(answer).acts == [], link
    for text, (_, dead, _) in jobs.items():
        assert " ".join(text.split()) in " ".join(seen(console, f"/jobs/{dead}").text.split())


def test_what_no_encoding_has_is_shown_as_such(console: TestClient, session: Session) -> None:
    message = {"actor_name": "post", "args": ["caf\udce9.txt"], "kwargs": {"\ud800": "\x00"}, "options": {}}
    session.enqueue([job := new_job(body=json.dumps(message).encode())])
    for path in ("/jobs", f"/jobs/{job.id}"):
        assert "caf?.txt" in seen(console, path).text
    assert "caf?.txt" in Page(console.post(f"/jobs/{job.id}/reveal")).text
    for path in ("/api/v1/jobs", f"/api/v1/jobs/{job.id}"):
        assert console.get(path).status_code == 200


def test_a_job_is_retried_cancelled_and_removed_by_forms(console: TestClient, session: Session) -> None:
    worker = join(session)
    job = new_job()
    run(session, worker, job, Outcome.FAILED, reason=Reason.REFUSED, error_type="ValueError", error_message="no stamp")
    page = seen(console, f"/jobs/{job.id}")
    assert f"/jobs/{job.id}/retry" in page.forms
    assert "no stamp" in page.text
    answer = console.post(f"/jobs/{job.id}/retry")
    assert "is waiting to run again" in Page(answer).text
    assert f"/jobs/{job.id}/cancel" in seen(console, f"/jobs/{job.id}/cancel").forms
    assert "is cancelled" in Page(console.post(f"/jobs/{job.id}/cancel")).text
    again = console.post(f"/jobs/{job.id}/cancel")
    assert "there is nothing to cancel" in Page(again).text
    assert "is forgotten" in Page(console.post(f"/jobs/{job.id}/remove")).text
    assert console.get(f"/jobs/{job.id}").status_code == 404


def test_what_was_done_is_told_once(console: TestClient, session: Session) -> None:
    session.enqueue([job := new_job()])
    assert "It is cancelled" in console.post(f"/jobs/{job.id}/cancel").text
    assert "It is cancelled" not in console.get(f"/jobs/{job.id}").text


def test_a_name_has_to_be_typed_before_a_schedule_is_removed(
    console: TestClient, control: Control, broker: Broker
) -> None:
    put(control, [Schedule("tidy/up", "post", "every 1h", args=("Ada",))], judge=broker, by="test")
    assert "Type" in seen(console, "/schedules/tidy%2Fup/remove").text
    refused = console.post("/schedules/tidy%2Fup/remove", data={"typed": "tidy"})
    assert "nothing was done" in Page(refused).text
    assert "is forgotten" in Page(console.post("/schedules/tidy%2Fup/remove", data={"typed": "tidy/up"})).text


def test_a_schedule_says_when_it_fires_here_and_in_utc(console: TestClient, control: Control, broker: Broker) -> None:
    schedule = Schedule("morning", "post", "0 9 * * *", tz="Europe/Paris", args=("Ada",))
    put(control, [schedule], judge=broker, by="test")
    text = seen(console, "/schedules/morning").text
    assert "09:00:00 CE" in text
    assert "Europe/Paris" in text


def test_jobs_are_filtered_by_the_address(console: TestClient, session: Session) -> None:
    session.enqueue([new_job(queue="letters", actor="post"), new_job(queue="parcels", actor="carry")])
    assert "carry" not in _rows(seen(console, "/jobs?queue=letters"))
    assert "post" in _rows(seen(console, "/jobs?q=actor:post"))
    assert "did you mean 'actor'" in seen(console, "/jobs?q=actr:post").text
    assert "No job fits" in seen(console, "/jobs?state=failed").text


def test_a_job_took_as_long_as_its_last_attempt_ran(console: TestClient, session: Session) -> None:
    worker = join(session)
    tried, late = new_job(), new_job(delay_ms=3_600_000)
    run(session, worker, tried, Outcome.SNOOZED)
    session.promote(10, resend_after_s=5)
    finish(session, worker, claim(session, worker, tried, ticket=2))
    session.enqueue([late])
    console.post(f"/jobs/{late.id}/cancel")
    rows = {
        row["id"]: row for row in console.get("/api/v1/jobs", headers={"Accept": "application/json"}).json()["items"]
    }
    attempts = console.get(f"/api/v1/jobs/{tried.id}", headers={"Accept": "application/json"}).json()["attempts"]
    last = datetime.fromisoformat(attempts[-1]["finished_at"]) - datetime.fromisoformat(attempts[-1]["started_at"])
    assert (len(attempts), rows[tried.id]["duration_s"]) == (2, last.total_seconds())
    assert (rows[late.id]["state"], rows[late.id]["duration_s"]) == ("cancelled", None)


def _rows(page: Page) -> str:
    return page.text.partition("Took")[2]


def test_a_pasted_id_leads_to_its_job(console: TestClient, session: Session) -> None:
    session.enqueue([job := new_job()])
    answer = console.get("/jobs", params={"q": job.id}, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, f"/jobs/{job.id}")


def test_the_query_box_is_completed(console: TestClient, session: Session) -> None:
    session.enqueue([new_job(queue="letters")])
    assert ["error:", "error:", "a part of the error that made it a dead letter"] in console.get(
        "/jobs/suggest?q=er"
    ).json()
    assert ["state:failed queue:letters ", "letters", "queue"] in console.get(
        "/jobs/suggest", params={"q": "state:failed queue:l"}
    ).json()


def test_what_is_secret_is_not_shown(console: TestClient, session: Session) -> None:
    body = (
        b'{"queue_name": "letters", "actor_name": "post", "args": [], "kwargs": {"password": "hunter2"}, "options": {}}'
    )
    session.enqueue([job := new_job(body=body)])
    page = seen(console, f"/jobs/{job.id}")
    assert "hunter2" not in page.text
    assert "[redacted]" in page.text
    assert "hunter2" in Page(console.post(f"/jobs/{job.id}/reveal")).text
    assert "revealed" in seen(console, f"/jobs/{job.id}").text


def test_a_flow_is_drawn(console: TestClient, broker: Broker) -> None:
    actors = [broker.get_actor("post"), broker.get_actor("answer")]
    started = workflow("chat").then(actors[0]).then(wait("signed")).then(actors[1]).start(to="Ada")
    page = seen(console, f"/flows/{started.id}")
    assert "signed" in page.text
    assert console.get(f"/flows/{started.id}").text.count('class="node"') == 3
    assert "has the signal signed" in Page(console.post(f"/flows/{started.id}/signal", data={"name": "signed"})).text


def test_only_what_can_be_done_with_a_job_is_offered(
    console: TestClient, broker: Broker, session: Session, control: Control
) -> None:
    def offered(job: str) -> set[str]:
        page = seen(console, f"/jobs/{job}")
        return {path.rpartition("/")[2] for path in (*page.forms, *page.links) if path.startswith(f"/jobs/{job}/")}

    worker = join(session)
    plain, no_message = new_job(), new_job(body=b"[]")
    for job in (plain, no_message):
        run(session, worker, job, Outcome.FAILED)
    assert offered(plain.id) >= {"retry", "remove"}
    assert "edit" not in offered(no_message.id)
    started = workflow("chat").then(broker.get_actor("post")).then(wait("signed")).start(to="Ada")
    [step] = broker.queries.jobs(actor="post", state=State.WAITING)
    assert offered(step.id) == {"cancel", "reveal"}
    console.post(f"/flows/{started.id}/cancel")
    page = seen(console, f"/jobs/{step.id}")
    assert "cancelled" in page.text
    assert "hareline jobs retry" not in page.text
    assert f"/flows/{started.id}" in page.links
    assert offered(step.id) == {"remove", "reveal"}
    assert "retry that instead" in Page(console.post(f"/jobs/{step.id}/retry")).text


def test_a_page_that_was_not_to_be_had_asks_again_by_itself(console: TestClient) -> None:
    def away(slow: bool = False) -> None:
        raise QuestionTooSlow("narrow it") if slow else LedgerUnavailable("no answer")

    app = console.app
    assert isinstance(app, FastAPI)
    app.add_api_route("/away", away, methods=["GET", "POST"])
    app.router.routes.insert(0, app.router.routes.pop())
    found = console.get("/away")
    assert (found.status_code, found.headers["refresh"], found.headers["retry-after"]) == (503, "5", "5")
    assert "asks again every 5 seconds" in Page(found).text
    assert "refresh" not in console.get("/away?slow=1").headers
    told = console.post("/away")
    assert (told.status_code, "refresh" in told.headers) == (503, False)
    assert "look whether what you asked for was done" in Page(told).text


def test_what_operators_changed_of_a_queue_is_shown(console: TestClient, control: Control) -> None:
    change(control, "letters", {Knob.CONCURRENCY: 7, Knob.RATE: "5/h"}, by="ann")
    for path in ("/queues/letters", "/limits"):
        text = " ".join(seen(console, path).text.split())
        assert "concurrency" in text
        assert "5/h" in text
        assert "by ann" in text
    detail = console.get("/api/v1/queues/letters", headers={"Accept": "application/json"}).json()
    assert {knob["knob"]: knob["now"] for knob in detail["knobs"]}["rate"] == "5/h"
    listed = console.get("/api/v1/limits", headers={"Accept": "application/json"}).json()["queues"]
    assert [(knob["knob"], knob["now"]) for knob in listed["letters"]] == [("concurrency", 7), ("rate", "5/h")]


def test_ticked_jobs_are_dealt_with_as_one_operation(console: TestClient, session: Session, control: Control) -> None:
    worker = join(session)
    dead = [new_job() for _ in range(3)]
    for job in dead:
        run(session, worker, job, Outcome.FAILED, reason=Reason.REFUSED, error_type="ValueError", error_message="x")
    answer = console.post("/jobs/bulk", data={"verb": "retry", "id": [dead[0].id, dead[1].id]})
    assert "Retry 2 jobs" in Page(answer).text
    go_on(control)
    assert "2 of 2" in seen(console, answer.url.path).text
    assert "Retry 1 job?" in " ".join(seen(console, "/operations/new?q=state:failed&verb=retry").text.split())
    asked = console.post("/jobs/bulk", data={"verb": "remove", "id": [dead[2].id]})
    assert "Remove 1 job?" in " ".join(Page(asked).text.split())
    many = [new_job() for _ in range(250)]
    asked = console.post("/jobs/bulk", data={"verb": "remove", "id": [dead[2].id, *(job.id for job in many)]})
    page = Page(asked)
    assert page.forms.count("/operations/new") == 1
    assert "Remove 1 job?" in " ".join(page.text.split())
    assert console.get(f"/jobs/{dead[2].id}").status_code == 200
    drifted = console.post("/operations/new", data={"q": "state:failed", "verb": "retry", "expected": "9"})
    assert "were expected" in Page(drifted).text
    assert "Tick the jobs first" in Page(console.post("/jobs/bulk", data={"verb": "retry"})).text


def test_hours_are_a_finite_number(console: TestClient, session: Session) -> None:
    session.enqueue([new_job()])
    for hours in ("nan", "1e400", "1e300", "-1"):
        given = {"state": "completed", "hours": hours, "typed": "letters"}
        told = console.post("/queues/letters/clean", data=given)
        assert (told.status_code, "hours: " in Page(told).text) == (200, True)


def test_a_job_is_sent_again_with_other_arguments(console: TestClient, broker: Broker) -> None:
    sent = broker.get_actor("post").send_with_options(args=("Ada",), delay=3_600_000)
    job = broker.queries.job(sent.message_id)
    assert job is not None
    assert "Ada" in seen(console, f"/jobs/{job.id}/edit").text
    wrong = console.post(f"/jobs/{job.id}/edit", data={"args": "[", "kwargs": "{}"})
    assert "args is no JSON" in Page(wrong).text
    new = console.post(f"/jobs/{job.id}/edit", data={"args": '["Grace"]', "kwargs": '{"copies": 2}'})
    page = Page(new)
    assert "This is the new job" in page.text
    assert "Grace" in page.text
    assert f"/jobs/{job.id}" in page.links
    assert new.url.path in seen(console, f"/jobs/{job.id}").links


def test_what_is_not_touched_is_sent_as_it_was(console: TestClient, broker: Broker) -> None:
    @dramatiq.actor(broker=broker, queue_name="letters")
    def carry(parcel) -> None: ...  # type: ignore[no-untyped-def]

    odd = ["a\x00b", 10**40, 1.5, "ü", {"\x00": None}]
    sent = carry.send_with_options(args=(odd,), delay=3_600_000)
    job = broker.queries.job(sent.message_id)
    assert job is not None
    areas = re.findall(
        r'<textarea name="(\w+)"[^>]*>(.*?)</textarea>', console.get(f"/jobs/{job.id}/edit").text, re.DOTALL
    )
    new = console.post(f"/jobs/{job.id}/edit", data={name: unescape(text) for name, text in areas})
    again = broker.queries.job(new.url.path.removeprefix("/jobs/"))
    assert again is not None
    assert again.id != job.id
    assert json.loads(again.body)["args"] == [odd]


def test_what_matches_is_exported(console: TestClient, session: Session) -> None:
    session.enqueue([new_job(queue="letters"), new_job(queue="parcels")])
    assert console.get("/jobs/export.csv?queue=letters").text.count("letters") == 1
    assert len(console.get("/jobs/export.ndjson").text.splitlines()) == 2


def test_somebody_logs_in_sees_what_their_role_may_and_logs_out(
    settings: Settings, broker: Broker, session: Session, control: Control
) -> None:
    worker = join(session)
    dead = new_job()
    error = {"reason": Reason.REFUSED, "error_type": "ValueError", "error_message": "no stamp"}
    run(session, worker, dead, Outcome.FAILED, **error)
    for role in (Role.VIEWER, Role.OPERATOR, Role.ADMIN):
        add(control, role, "correct horse", role, by="test")
    closed = settings.model_copy(update={"console_insecure_local": False})
    headers = {"Accept": "text/html", "Sec-Fetch-Site": "same-origin"}
    with TestClient(build(closed, broker=broker), base_url="http://127.0.0.1", headers=headers) as client:
        asked = client.get(f"/jobs/{dead.id}")
        assert asked.url.path == "/login"
        assert Page(asked).acts == []
        assert "not right" in client.post("/login", data={"name": "viewer", "password": "wrong"}).text
        shown = {}
        for name in ("viewer", "operator", "admin"):
            client.post("/login", data={"name": name, "password": "correct horse", "to": "/jobs"})
            page = seen(client, f"/jobs/{dead.id}")
            shown[name] = {form.rpartition("/")[2] for form in page.forms} & {"retry", "reveal"}
            assert ("no stamp" in page.text) == (name != "viewer")
            assert client.post(f"/jobs/{dead.id}/retry").status_code == 403, "it had no token of the session"
            assert (client.get(f"/jobs/{dead.id}/remove").status_code == 200) == (name == "admin")
            assert (client.get("/settings/accounts").status_code == 200) == (name == "admin")
            assert (client.get("/audit").status_code == 200) == (name != "viewer")
        assert shown == {"viewer": set(), "operator": {"retry"}, "admin": {"retry", "reveal"}}
        csrf = re.search(r'name="csrf_token" value="([^"]+)"', client.get("/settings/accounts").text)
        assert csrf
        given = {"csrf_token": csrf[1], "name": "ci", "role": "operator", "days": "30"}
        made = client.post("/settings/accounts/tokens", data=given)
        assert "hareline_" in made.text
        assert "hareline_" not in seen(client, "/settings/accounts").text.replace("hareline_zone", "")
        given = {"csrf_token": csrf[1], "name": "grace", "password": "battery staple", "role": "viewer"}
        assert "grace may log in" in Page(client.post("/settings/accounts/users", data=given)).text
        ended = client.post("/settings/accounts/users/grace/disable", data={"csrf_token": csrf[1]})
        assert "cannot log in" in Page(ended).text
        client.post("/logout", data={"csrf_token": csrf[1]})
        assert client.get("/jobs").url.path == "/login"


def test_errors_are_pages_for_browsers_and_problems_for_programs(console: TestClient) -> None:
    for path in ("/nothing", "/jobs/00000000-0000-7000-8000-000000000000", "/queues/none", "/workers/9", "/workers/x"):
        answer = console.get(path)
        assert answer.status_code == 404, path
        assert "<h1>There is no" in answer.text
        assert Page(answer).acts == []
    plain = console.get("/nothing", headers={"Accept": "application/json"})
    assert plain.headers["content-type"] == "application/problem+json"


def test_everything_is_below_the_prefix(settings: Settings, broker: Broker) -> None:
    below = settings.model_copy(update={"console_prefix": "/ops"})
    with TestClient(
        build(below, broker=broker), base_url="http://127.0.0.1", headers={"Accept": "text/html"}
    ) as client:
        for path in LISTS:
            found = re.findall(r'(?:href|src|action|hx-get)="(/[^"]*)"', client.get(f"/ops{path}").text)
            assert found
            assert [link for link in found if not link.startswith("/ops/")] == [], path
        assert client.get("/opsx/jobs").status_code == 404


def test_read_only_offers_nothing_that_changes(settings: Settings, broker: Broker, session: Session) -> None:
    session.enqueue([job := new_job()])
    only = settings.model_copy(update={"console_read_only": True})
    with TestClient(build(only, broker=broker), base_url="http://127.0.0.1", headers={"Accept": "text/html"}) as client:
        page = seen(client, f"/jobs/{job.id}")
        assert "READ-ONLY" in page.text
        reading = ("/jobs", "/preferences", f"/jobs/{job.id}/reveal")
        assert [form for form in page.forms if form not in reading] == []
        assert client.post(f"/jobs/{job.id}/cancel").status_code == 403


def test_times_are_shown_in_the_zone_that_was_chosen(console: TestClient, session: Session) -> None:
    session.enqueue([job := new_job()])
    console.post("/preferences", data={"zone": "Asia/Tokyo", "to": "/"})
    assert "JST" in console.get(f"/jobs/{job.id}").text
    console.post("/preferences", data={"zone": "Mars/Phobos", "theme": "dark", "to": "//elsewhere.example"})
    page = console.get(f"/jobs/{job.id}").text
    assert " UTC" in page
    assert 'data-theme="dark"' in page


def test_a_list_of_jobs_is_kept_under_a_name_and_shared_by_its_address(console: TestClient, session: Session) -> None:
    session.enqueue([new_job(queue="letters", actor="post"), new_job(queue="parcels", actor="carry")])
    kept = console.post("/views", data={"name": "My letters & more", "query": "queue=letters&state=&q=actor:post"})
    assert "Kept as My letters & more" in Page(kept).text
    assert (kept.url.path, kept.url.query) == ("/jobs", b"q=actor%3Apost&queue=letters")
    page = seen(console, "/jobs")
    [address] = [link for link in page.links if link.startswith("/views/local/")]
    shown = console.get(address)
    assert shown.url.query == b"q=actor%3Apost&queue=letters"
    assert "carry" not in _rows(Page(shown))
    console.post("/views", data={"name": "My letters & more", "query": "queue=parcels"})
    assert "carry" in _rows(seen(console, address))  # the address stays
    wrong = console.post("/views", data={"name": "x", "query": "colour=red"})
    assert "'colour' is not in the address" in Page(wrong).text
    assert "is forgotten" in Page(console.post("/views/remove", data={"name": "My letters & more"})).text
    assert console.get(address).status_code == 404
    [removed, changed, saved] = [
        (entry["operation"], entry["name"]) for entry in console.get("/api/v1/audit").json()["items"]
    ]
    assert (removed, changed, saved) == (("remove_view", "local"), ("save_view", "local"), ("save_view", "local"))


def test_everybody_has_views_of_their_own(control: Control, broker: Broker) -> None:
    save(control, "mine", "state=failed", by="ada")
    save(control, "mine", "state=waiting", by="bob")
    remove(control, "mine", by="bob")
    assert [(view.owner, view.query) for view in broker.queries.saved_views("ada")] == [("ada", "state=failed")]
    assert broker.queries.saved_views("bob") == []
    with pytest.raises(NotFound, match="bob has no view"):
        remove(control, "mine", by="bob")
    with pytest.raises(BadInput, match="no name for a view"):
        save(control, " \x1b[31m", "", by="ada")


def test_a_schedule_is_looked_at_added_and_changed_by_a_form(console: TestClient, control: Control) -> None:
    assert "/new/schedule" in seen(console, "/schedules").links
    given = {"key": "nightly/post", "actor": "post", "when": "0 3 * * 1-5", "tz": "Europe/Paris", "args": '["Ada"]'}
    looked = Page(console.post("/new/schedule", data={**given, "check": "on"}))
    assert "03:00:00 CE" in looked.text
    assert "Nothing is kept yet" in looked.text
    assert console.get("/schedules/nightly%2Fpost").status_code == 404
    for wrong, told in (
        ({"actor": "pst"}, "post"),
        ({"when": "every now"}, "every 3s"),
        ({"args": "[1"}, "args is no JSON"),
        ({"args": "[]"}, "to"),
        ({"start": "soon"}, "2026-07-01T09:00"),
        ({"tz": "Mars/Phobos"}, "Mars/Phobos"),
    ):
        answer = console.post("/new/schedule", data=given | wrong)
        assert answer.status_code == 422, wrong
        assert told in Page(answer).text, wrong
        assert Page(answer).acts == []
    added = console.post("/new/schedule", data=given)
    assert added.url.path == "/schedules/nightly/post"
    assert "is sent every weekday at 03:00 in Europe/Paris" in Page(added).text
    again = console.post("/new/schedule", data=given)
    assert "is there" in Page(again).text
    form = console.get("/schedules/nightly%2Fpost/edit").text
    assert 'value="0 3 * * 1-5"' in form
    assert 'value="Europe/Paris"' in form
    changed = console.post("/schedules/nightly%2Fpost/edit", data={**given, "when": "every 2h", "overlap": "skip"})
    assert "is sent every 2 hours" in Page(changed).text
    assert 'value="skip"' in console.get("/schedules/nightly%2Fpost/edit").text or "<option selected>skip" in (
        console.get("/schedules/nightly%2Fpost/edit").text
    )
    reconcile(control, [(Schedule("declared", "post", "every 1h", args=("Ada",)), "")], by="code")
    assert "/schedules/declared/edit" not in seen(console, "/schedules/declared").links
    refused = console.post("/schedules/declared/edit", data={**given, "key": "declared"})
    assert "is declared in code" in Page(refused).text


def test_dead_letters_of_a_queue_are_counted_before_they_are_retried(
    console: TestClient, session: Session, control: Control
) -> None:
    worker = join(session)
    error = {"reason": Reason.REFUSED, "error_type": "ValueError", "error_message": "no stamp"}
    dead = [new_job() for _ in range(12)]
    for job in dead:
        run(session, worker, job, Outcome.FAILED, **error)
    asked = console.get("/queues/letters/retry").text
    assert "12 dead letters of this queue run again" in asked
    assert 'name="expected" value="12"' in asked
    more = [new_job() for _ in range(3)]
    for job in more:
        run(session, worker, job, Outcome.FAILED, **error)
    drifted = console.post("/queues/letters/retry", data={"expected": "12"})
    assert "12 jobs were expected, and 15 fit now" in Page(drifted).text
    begun = console.post("/queues/letters/retry", data={"expected": "15"})
    assert begun.url.path.startswith("/operations/")
    go_on(control)
    assert "15 of 15" in seen(console, begun.url.path).text
    assert console.get("/api/v1/jobs?state=waiting&limit=50").json()["items"].__len__() == 15
    entries = console.get("/api/v1/audit?operation=retry_queue").json()["items"]
    assert [(entry["name"], entry["count"]) for entry in entries] == [("local", 15)]

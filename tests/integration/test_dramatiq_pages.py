"""dramatiq-dashboard over the ledger: it shows what is there, and nothing gets in by its holes."""

import base64
import hashlib
import html
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html.parser import HTMLParser

import dramatiq
import httpx2
import pytest
from starlette.testclient import TestClient

from broker import Broker
from broker import build as build_broker
from control import queues as queue_verbs
from control.permissions import Role
from dashboard.app import build
from dashboard.security import Principal, doors
from ledger import open_ledger
from ledger.ledger import Session
from ledger.records import NewJob
from ledger.states import Outcome, Reason
from settings import Settings
from tests.hostile import CORPUS
from tests.ledgers import finish, join, new_job

pytestmark = pytest.mark.prove

HERE = "http://127.0.0.1"
EVIL = '"><script>alert(9)</script>'


class World:
    """A ledger with jobs, and the console over it."""

    def __init__(self, url: str, prefix: str = "") -> None:
        self.settings = Settings(database_url=url, console_insecure_local=True, console_prefix=prefix)
        self.broker: Broker = build_broker(self.settings)

        @dramatiq.actor(broker=self.broker, queue_name="letters")
        def post(to: str) -> None: ...

        self.session: Session = open_ledger(url, road="embedded").session("test")
        self.client = TestClient(build(self.settings, broker=self.broker), base_url=HERE, follow_redirects=False)

    def get(self, path: str, **more: object) -> httpx2.Response:
        return self.client.get(f"/dramatiq{path}", **more)  # type: ignore[arg-type]

    def post(self, verb: str, **form: str) -> httpx2.Response:
        return self.client.post(f"/dramatiq/{verb}", data=form)

    def send(self, *args: object, **fields: object) -> NewJob:
        job = job_with(*args, **fields)
        self.session.enqueue([job])
        return job

    def dead(self, *args: object, error: tuple[str, str] = ("E", "no")) -> NewJob:
        job = self.send(*args)
        worker = join(self.session)
        [claim] = [taken for taken in self.session.take(worker, {"letters": 99}) if taken.id == job.id]
        said = {"error_type": error[0], "error_message": error[1], "traceback": f"Traceback\n{error[1]}"}
        finish(self.session, worker, claim, Outcome.FAILED, reason=Reason.RETRIES_EXHAUSTED, **said)
        return job

    def state(self, job: NewJob) -> str | None:
        view = self.broker.queries.job(job.id)
        return None if view is None else str(view.state)


def job_with(*args: object, **fields: object) -> NewJob:
    job = new_job(**fields)
    message = json.loads(job.body) | {
        "args": list(args),
        "kwargs": {"note": EVIL, "password": "hunter2"},
        "options": {},
    }
    return new_job(id=job.id, body=json.dumps(message).encode(), **fields)


@contextmanager
def opened(url: str, prefix: str = "") -> Iterator[World]:
    found = World(url, prefix)
    with found.client:
        yield found
    found.session.close()


@pytest.fixture
def anywhere(database_url: str) -> Iterator[World]:
    with opened(database_url) as found:
        yield found


@pytest.fixture
def world(sqlite_url: str) -> Iterator[World]:
    with opened(sqlite_url) as found:
        yield found


@pytest.fixture
def role(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Be somebody else."""

    def become(role: Role, *queues: str, csrf: str = "") -> None:
        somebody = Principal("ada", role, queues, csrf=csrf)
        monkeypatch.setattr(doors.Doors, "identify", lambda *_: somebody)

    return become


def text(answer: httpx2.Response) -> str:
    assert answer.status_code == 200, answer.text
    return answer.text


def test_every_page_is_there_and_counts_what_the_ledger_has(anywhere: World) -> None:
    waiting, dead = anywhere.send("ada"), anywhere.dead("bob")
    delayed = anywhere.send("later", delay_ms=3_600_000)
    overview = re.sub(r"\s+", " ", text(anywhere.get("/")))
    assert '<a href="/dramatiq/queues/letters"> letters </a>' in overview
    assert re.findall(r"table__number--\w+\"> (\S+) </td>", overview)[:3] == ["1", "1", "1"]
    for path, job in (("", waiting), ("/delayed", delayed), ("/failed", dead)):
        page = text(anywhere.get(f"/queues/letters{path}"))
        assert page.count("Delete</button>") == 1
        assert f"/{job.id}" in page
        about = text(anywhere.get(f"/queues/letters{path or '/standard'}/{job.id}"))
        assert job.message_id in about
    assert text(anywhere.get("/queues/letters/failed")).count("Requeue</button>") == 1
    assert "Traceback\nno" in text(anywhere.get(f"/queues/letters/failed/{dead.id}"))


def test_a_dead_letter_is_requeued_and_removed_by_the_verbs_with_who_did_it(anywhere: World) -> None:
    again, gone = anywhere.dead("ada"), anywhere.dead("bob")
    form = {"queue": "letters.XQ", "id": again.id}
    answer = anywhere.post("requeue-message", **form)
    assert (answer.status_code, answer.headers["location"]) == (303, f"/dramatiq/queues/letters/standard/{again.id}")
    assert anywhere.state(again) == "waiting"
    assert "<pre>waiting</pre>" in text(anywhere.client.get(answer.headers["location"]))
    assert anywhere.post("requeue-message", **form).status_code == 409  # twice is not twice as good
    answer = anywhere.post("delete-message", queue="letters.XQ", id=gone.id)
    assert (answer.status_code, answer.headers["location"]) == (303, "/dramatiq/queues/letters/failed")
    assert anywhere.state(gone) is None
    view = anywhere.broker.queries.job(again.id)
    assert view is not None
    assert [(row.event, row.actor) for row in view.journal if row.event == "retried"] == [("retried", "console:local")]


def test_a_job_that_is_not_over_is_cancelled_and_kept(world: World) -> None:
    job = world.send("ada")
    assert world.post("delete-message", queue="letters", id=job.id).headers["location"].endswith("/letters/standard")
    assert world.state(job) == "cancelled"
    assert world.post("delete-message", queue="letters", id=job.id).status_code == 303
    assert world.state(job) is None


def test_long_lists_have_pages(anywhere: World) -> None:
    jobs = [anywhere.send(n) for n in range(60)]
    first = text(anywhere.get("/queues/letters"))
    [rest] = re.findall(r"\?cursor=(\d+)", first)
    second = text(anywhere.get("/queues/letters/standard", params={"cursor": rest}))
    shown = [re.findall(r"/standard/([0-9a-f-]{36})", page) for page in (first, second)]
    assert [len(page) for page in shown] == [50, 10]
    assert [*shown[0], *shown[1]] == [job.id for job in reversed(jobs)]
    assert "cursor=" not in second


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("", 307),
        ("/queues/letters?cursor=abc", 422),
        ("/queues/letters?cursor=-1", 422),
        (f"/queues/letters?cursor={2**128}", 422),
        ("/queues/nobody", 404),
        ("/queues/nobody/failed", 404),
        ("/queues/letters/standard/no-such-job", 302),
        ("/queues/letters/failed/%3Cscript%3E", 302),
        ("/queues/%0A", 404),
        ("/queues/letters/other", 404),
        ("/nothing", 404),
        ("/delete-message", 405),
        ("/requeue-message", 405),
    ],
)
def test_what_was_a_500_or_a_404_is_answered(world: World, path: str, status: int) -> None:
    world.send("ada")
    answer = world.get(path)
    assert answer.status_code == status, answer.text
    if status in (302, 307):
        assert answer.headers["location"] in (
            "/dramatiq/",
            "/dramatiq/queues/letters/standard",
            "/dramatiq/queues/letters/failed",
        )


def test_a_form_that_does_not_fit_changes_nothing(world: World) -> None:
    job = world.dead("ada")
    assert world.post("delete-message").status_code == 422
    assert world.post("requeue-message", queue="letters.XQ").status_code == 422
    assert world.post("delete-message", queue="letters.XQ", id="").status_code == 422
    for queue in ("../../other.XQ", "other.XQ", EVIL):
        assert world.post("delete-message", queue=queue, id=job.id).status_code == 404
        assert world.post("requeue-message", queue=queue, id=job.id).status_code == 404
    assert world.post("delete-message", queue="letters.XQ", id=job.id[:13]).status_code == 404
    assert world.client.post("/dramatiq/delete-message", headers={"content-length": ""}).status_code in (400, 413, 422)
    assert world.client.post("/dramatiq/delete-message", content=b"x" * 2_000_000).status_code == 413
    assert world.state(job) == "failed"


def test_only_whole_names_are_its_path(world: World) -> None:
    for path in ("/dramatic-readings", "/dramatiqx", "/drama"):
        assert world.client.get(path).status_code == 404
    assert world.client.put("/dramatiq/").status_code == 405


def test_nothing_of_a_cookie_comes_back_and_none_is_set(world: World) -> None:
    world.dead("ada")
    answer = world.get("/queues/letters/failed", headers={"cookie": f"x__dd_csrf={EVIL}; __dd_csrf={EVIL}"})
    assert EVIL not in text(answer)
    assert "set-cookie" not in answer.headers
    assert "__dd_csrf" not in answer.text


def test_what_jobs_carry_is_escaped_and_has_no_secrets(world: World) -> None:
    job = world.dead(EVIL, error=(EVIL, f"{EVIL} password=hunter3"))
    for path in ("/queues/letters/failed", f"/queues/letters/failed/{job.id}"):
        page = text(world.get(path))
        assert "<script>" not in page
        assert "alert(9)" in page
        assert "hunter" not in page
        assert "password" in html.unescape(page)


class Tags(HTMLParser):
    """The tags of a page with the names of their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: set[tuple[str, ...]] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.add((tag, *(name for name, _ in attrs)))


def test_hostile_texts_add_no_tag_and_no_attribute(world: World) -> None:
    jobs = [world.dead("harmless", error=("E", "no")), *(world.dead(word, error=(word, word)) for word in CORPUS)]
    harmless, *hostile = (Tags(text(world.get(f"/queues/letters/failed/{job.id}"))).found for job in jobs)
    assert ("form", "action", "method") in harmless
    assert [found - harmless for found in hostile if found - harmless] == []
    listed = Tags(text(world.get("/queues/letters/failed"))).found
    assert {tag for tag, *_ in listed} <= {tag for tag, *_ in harmless} | {"thead", "time", "em"}


def test_its_pages_may_load_nothing_and_be_framed_nowhere(world: World) -> None:
    answer = world.get("/")
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    [style] = re.findall(r"<style>(.*?)</style>", text(answer), re.DOTALL)
    assert f"'sha256-{base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()}'" in policy
    assert answer.text.count("<style") == 1
    assert "style=" not in answer.text


def test_roles_see_and_do_what_they_may(world: World, role: Callable[..., None]) -> None:
    job = world.dead("ada lovelace")
    paths = ("/queues/letters/failed", f"/queues/letters/failed/{job.id}")
    form = {"queue": "letters.XQ", "id": job.id, "csrf_token": "t"}
    role(Role.VIEWER, csrf="t")
    for path in paths:
        page = text(world.get(path))
        assert "lovelace" not in page
        assert "not shown to your role" in page
        assert "<button" not in page
        assert "Traceback" not in page
    assert world.post("requeue-message", **form).status_code == 403
    role(Role.PAYLOAD_VIEWER, csrf="t")
    assert all("lovelace" in text(world.get(path)) for path in paths)
    assert world.post("requeue-message", **form).status_code == 403
    role(Role.OPERATOR, csrf="t")
    page = text(world.get(paths[0]))
    assert ("Requeue</button>" in page, "Delete</button>" in page) == (True, False)
    assert world.post("delete-message", **form).status_code == 403
    assert world.state(job) == "failed"
    assert world.post("requeue-message", **form).status_code == 303
    role(Role.ADMIN, csrf="t")
    assert world.post("delete-message", **(form | {"queue": "letters"})).status_code == 303


def test_who_is_confined_to_queues_finds_no_other(world: World, role: Callable[..., None]) -> None:
    job = world.dead("ada")
    role(Role.ADMIN, "billing.*")
    assert "letters" not in text(world.get("/"))
    for path in ("/queues/letters", f"/queues/letters/failed/{job.id}"):
        assert world.get(path).status_code == 404
    assert world.post("delete-message", queue="letters.XQ", id=job.id).status_code == 404
    role(Role.ADMIN, "letters")
    assert job.id in text(world.get("/queues/letters/failed"))
    assert world.post("delete-message", queue="letters.XQ", id=job.id).status_code == 303


def test_a_form_needs_the_token_of_the_session_and_of_this_site(world: World, role: Callable[..., None]) -> None:
    job = world.dead("ada")
    form = {"queue": "letters.XQ", "id": job.id}
    role(Role.ADMIN, csrf="of this session")
    assert 'name="csrf_token" value="of this session"' in text(world.get("/queues/letters/failed"))
    for wrong in ({}, {"csrf_token": "of another"}, {"csrf_token": "", "__dd_csrf": "x"}):
        assert world.post("delete-message", **form, **wrong).status_code == 403
    role(Role.ADMIN, csrf=EVIL)
    assert EVIL not in text(world.get("/queues/letters/failed"))
    assert world.state(job) == "failed"


def test_another_sites_form_is_refused(world: World) -> None:
    job = world.dead("ada")
    answer = world.client.post(
        "/dramatiq/delete-message",
        data={"queue": "letters.XQ", "id": job.id},
        headers={"origin": "http://evil.example", "sec-fetch-site": "cross-site"},
    )
    assert answer.status_code == 403
    assert world.state(job) == "failed"


def test_below_a_prefix_every_link_has_it(sqlite_url: str) -> None:
    with opened(sqlite_url, prefix="/ops") as world:
        job = world.dead("ada")
        assert world.client.get("/ops/dramatiq").headers["location"] == "/ops/dramatiq/"
        for path in ("/", "/queues/letters/failed", f"/queues/letters/failed/{job.id}"):
            page = text(world.client.get(f"/ops/dramatiq{path}"))
            assert set(re.findall(r"(?:href|action)=\"(/[^/\"]+)", page)) == {"/ops"}
        form = {"queue": "letters.XQ", "id": job.id}
        answer = world.client.post("/ops/dramatiq/requeue-message", data=form)
        assert answer.headers["location"].startswith("/ops/dramatiq/queues/letters/")


def test_paused_queues_and_those_without_jobs_are_listed(world: World) -> None:
    queue_verbs.pause(world.client.app.state.services.control, "idle", by="a test")  # type: ignore[attr-defined]
    page = text(world.get("/"))
    assert "/dramatiq/queues/idle" in page
    assert "/dramatiq/queues/letters" in page
    assert "There are no jobs" in text(world.get("/queues/idle"))

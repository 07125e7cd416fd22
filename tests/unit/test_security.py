"""Nobody is let in who is not known; no route is anybody's by mistake; no other site acts by a browser of ours."""

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from fastapi import APIRouter, Depends, FastAPI, Form, Request
from fastapi.testclient import TestClient

from control.permissions import PERMISSIONS, SCOPED, Role, allowed, check, demand, writes
from control.who import Who
from dashboard import security
from errors import Denied, SettingsError, UnmappedOperation
from ledger.scope import Scope
from settings import Settings
from tests.program import ROOT

LOCAL = Settings(console_insecure_local=True)
HERE = "http://127.0.0.1:8642"


def console(settings: Settings, *routers: APIRouter) -> FastAPI:
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    for router in routers or (pages(),):
        app.include_router(router, prefix="/some")
    security.install(app, settings)
    return app


def pages() -> APIRouter:
    router = APIRouter()

    @router.get("/jobs", dependencies=[Depends(security.allow("list_jobs"))], operation_id="list_jobs")
    def jobs(request: Request) -> dict[str, Any]:
        asks = security.principal(request)
        return {"name": asks.name, "role": asks.role, "by": str(security.who(request))}

    @router.post("/retry", dependencies=[Depends(security.allow("retry_job"))], operation_id="retry_job")
    def retry(why: str = Form("")) -> str:
        return f"retried {why}"

    return router


@pytest.fixture
def local() -> Iterator[TestClient]:
    with TestClient(console(LOCAL), base_url=HERE) as client:
        yield client


def test_roles_each_may_what_the_one_before_may() -> None:
    for operation, needed in PERMISSIONS.items():
        for role in Role:
            assert allowed(Who("ada", "api", role), operation) is (role.rank >= needed.rank), (operation, role)


@pytest.mark.parametrize("role", ["", "root", "Admin"])
def test_a_role_that_nobody_knows_may_nothing(role: str) -> None:
    for operation in PERMISSIONS:
        with pytest.raises(Denied):
            demand(Who("ada", "api", role), operation)


def test_what_a_viewer_may_do_changes_nothing_but_what_is_their_own() -> None:
    assert {
        name for name, role in PERMISSIONS.items() if writes(name) and role in (Role.VIEWER, Role.PAYLOAD_VIEWER)
    } == {"save_view", "remove_view"}


def test_who_is_confined_to_queues_does_only_what_sees_to_it() -> None:
    ada = Who("ada", "api", Role.ADMIN, queues=("billing.*",))
    assert PERMISSIONS.keys() >= SCOPED
    assert {operation for operation in PERMISSIONS if allowed(ada, operation)} == SCOPED


def test_every_operation_of_the_map_exists() -> None:
    layers = ("ledger", "control", "dashboard", "cli")
    sources = [path for layer in layers for path in (ROOT / layer).rglob("*.py") if path.name != "permissions.py"]
    words = {word for path in sources for word in re.findall(r"\w+", path.read_text())}
    assert PERMISSIONS.keys() - words == set()


def test_an_operation_that_is_not_in_the_map_is_refused() -> None:
    with pytest.raises(UnmappedOperation, match="launch_missiles"):
        check(["list_jobs", "launch_missiles"])
    with pytest.raises(UnmappedOperation, match="launch_missiles"):
        demand(Who("ada", "api", Role.ADMIN), "launch_missiles")


@pytest.mark.parametrize(
    ("patterns", "inside", "outside"),
    [
        ((), ["billing", ""], []),
        (("*", "x"), ["billing", ""], []),
        (("billing.*",), ["billing.eu", "billing."], ["billing", "Billing.eu", "xbilling.eu"]),
        (("a_b", "mail*"), ["a_b", "mail", "mailing"], ["axb", "a_b.XQ", "email"]),
    ],
)
def test_a_scope_admits_the_queues_it_names(patterns: tuple[str, ...], inside: list[str], outside: list[str]) -> None:
    scope = Scope.of(patterns)
    assert all(scope.admits(queue) for queue in inside)
    assert not any(scope.admits(queue) for queue in outside)


@pytest.mark.parametrize("pattern", ["", "*x", "a*b", "a%", "a b", "[a]"])
def test_a_scope_is_made_of_names_and_beginnings_of_names(pattern: str) -> None:
    with pytest.raises(ValueError, match="names no queues"):
        Scope.of([pattern])


def test_nobody_is_let_in_by_default() -> None:
    with TestClient(console(Settings()), base_url=HERE) as client:
        answer = client.get("/some/jobs")
        assert (answer.status_code, answer.headers["content-type"]) == (401, "application/problem+json")
        for path in ("/anything", "/loginx", "/api/v1/jobs", "/", "/static"):
            assert client.get(path).status_code == 401
        page = client.get("/some/jobs", headers={"accept": "text/html"}, follow_redirects=False)
        assert (page.status_code, page.headers["location"]) == (303, "/login?to=%2Fsome%2Fjobs")
        asked = "/some/jobs%3F?state=failed&q=a%26b"
        page = client.get(asked, headers={"accept": "text/html"}, follow_redirects=False)
        assert parse_qs(urlsplit(page.headers["location"]).query) == {"to": [asked]}


def test_a_console_without_login_is_for_this_machine_only() -> None:
    with pytest.raises(SettingsError, match=r"0\.0\.0\.0"):
        console(Settings(console_insecure_local=True, console_host="0.0.0.0"))


def test_without_login_everybody_on_this_machine_is_its_admin(local: TestClient) -> None:
    assert local.get("/some/jobs").json() == {"name": "local", "role": "admin", "by": "console:local"}
    assert local.post("/some/retry").json() == "retried "


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:8642", "10.0.0.7", ""])
def test_a_name_that_somebody_made_point_here_is_not_answered(local: TestClient, host: str) -> None:
    assert local.get("/some/jobs", headers={"host": host}).status_code == 403


@pytest.mark.parametrize("host", ["localhost:8642", "[::1]:8642", "127.0.0.1"])
def test_the_names_of_this_machine_are_answered(local: TestClient, host: str) -> None:
    assert local.get("/some/jobs", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "none"},
        {"origin": "http://127.0.0.1:9999"},
        {"origin": "null"},
        {"origin": "https://evil.example"},
        {"sec-fetch-site": "cross-site", "origin": HERE},
    ],
)
def test_another_sites_page_changes_nothing(local: TestClient, headers: dict[str, str]) -> None:
    refused = local.post("/some/retry", headers=headers)
    assert (refused.status_code, refused.json()["title"]) == (403, "ForeignRequest")
    assert local.get("/some/jobs", headers=headers).status_code == 200  # a link to the console is fine


@pytest.mark.parametrize("headers", [{"sec-fetch-site": "same-origin"}, {"origin": HERE}])
def test_a_page_of_the_console_does(local: TestClient, headers: dict[str, str]) -> None:
    assert local.post("/some/retry", headers=headers, data={"why": "so"}).json() == "retried so"


def test_a_read_only_console_changes_nothing_whoever_asks() -> None:
    settings = Settings(console_insecure_local=True, console_read_only=True)
    with TestClient(console(settings), base_url=HERE, raise_server_exceptions=False) as client:
        assert client.get("/some/jobs").status_code == 200
        assert client.post("/some/retry").status_code != 200


def test_every_answer_has_the_headers_that_keep_a_browser_in_bounds(local: TestClient) -> None:
    for answer in (
        local.get("/some/jobs"),
        local.get("/nothing"),
        local.post("/some/retry", headers={"origin": "null"}),
    ):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-request-id"]
        assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("broken", ["open", "unmapped", "misnamed"])
def test_an_application_with_a_route_that_is_anybodys_does_not_start(broken: str) -> None:
    router = APIRouter()
    kinds: dict[str, dict[str, Any]] = {
        "open": {},
        "unmapped": {"dependencies": [Depends(security.allow("launch_missiles"))], "include_in_schema": False},
        "misnamed": {"dependencies": [Depends(security.allow("list_jobs"))], "operation_id": "remove_job"},
    }

    @router.post("/here", **kinds[broken])
    def here() -> None: ...

    with pytest.raises(UnmappedOperation), TestClient(console(LOCAL, router)):
        pass


def test_a_route_for_everybody_says_so() -> None:
    router = APIRouter()

    @router.get("/login", dependencies=[Depends(security.everybody)])
    def login() -> str:
        return "who are you?"

    with TestClient(console(Settings(), router), base_url=HERE):
        pass


def test_an_application_that_is_mounted_asks_for_its_permissions() -> None:
    async def inner(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"inner"})

    app = console(Settings(console_insecure_local=True, console_read_only=True))
    app.mount("/inner", security.Guard(inner, read="list_dramatiq", write="remove_job"))
    with TestClient(app, base_url=HERE) as client:
        assert client.get("/inner/").text == "inner"
        with pytest.raises(Denied):
            client.post("/inner/")

"""Coming in at the console: by a password, a token or a proxy, on both databases; and nobody else does."""

import re
from collections.abc import Callable, Iterator
from datetime import timedelta

import httpx2
import pytest
from argon2 import PasswordHasher
from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.testclient import TestClient

from control import Control, sessions, tokens, users
from control.permissions import PERMISSIONS, SCOPED, Role, writes
from control.who import Who
from dashboard import problems, security
from errors import BadAccount, NotAuthenticated, NotFound, SettingsError, Throttled
from ledger.account_queries import AccountQueries
from ledger.audit_queries import AuditQueries
from settings import Settings

pytestmark = pytest.mark.one_database

HERE = "http://127.0.0.1:8642"
OURS = {"origin": HERE}
PASSWORD = "correct horse battery"
BOSS = Who("boss", "cli")


@pytest.fixture
def settings(database_url: str) -> Settings:
    return Settings(database_url=database_url, console_trusted_proxies="10.1.0.0/16")


def application(settings: Settings) -> FastAPI:
    """A route for every operation that there is, as the console has them."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    problems.install(app)
    router = APIRouter()

    def told(request: Request) -> dict[str, str]:
        by = security.who(request)
        return {"by": str(by), "operation": by.operation}

    for operation in PERMISSIONS:
        if operation != "logout":
            method = "POST" if writes(operation) or operation == "reveal_job_payload" else "GET"
            router.add_api_route(
                f"/do/{operation}",
                told,
                methods=[method],
                operation_id=operation,
                dependencies=[Depends(security.allow(operation))],
            )

    @router.get("/form", dependencies=[Depends(security.allow("get_me"))], operation_id="get_me")
    def form(request: Request) -> str:
        return security.principal(request).csrf

    app.include_router(router)
    security.install(app, settings)
    return app


@pytest.fixture
def client(settings: Settings, control: Control) -> Iterator[TestClient]:
    with TestClient(application(settings), base_url=HERE, follow_redirects=False) as opened:
        yield opened


def log_in(client: TestClient, name: str = "ada", password: str = PASSWORD, **headers: str) -> httpx2.Response:
    return client.post("/login", data={"name": name, "password": password}, headers={**OURS, **headers})


def test_a_user_logs_in_acts_and_logs_out(client: TestClient, control: Control, trail: AuditQueries) -> None:
    users.add(control, "ada", PASSWORD, Role.OPERATOR, by=BOSS)
    assert client.get("/form").status_code == 401
    answer = log_in(client)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    token = client.get("/form").json()
    done = client.post("/do/retry_job", headers={**OURS, "x-csrf-token": token})
    assert done.json() == {"by": "console:ada", "operation": "retry_job"}
    assert client.post("/do/retry_job", headers=OURS, data={"csrf_token": token}).status_code == 200
    assert client.post("/logout", headers=OURS, data={"csrf_token": token}).status_code == 303
    assert client.get("/form").status_code == 401
    assert [(x.operation, x.name, x.result) for x in trail.entries()] == [
        ("logout", "ada", "done"),
        ("login", "ada", "done"),
        ("add_user", "boss", "done"),
    ]


def test_a_session_that_was_ended_does_not_come_back_with_its_cookie(client: TestClient, control: Control) -> None:
    users.add(control, "ada", PASSWORD, Role.OPERATOR, by=BOSS)
    log_in(client)
    kept = client.cookies["hareline"]
    token = client.get("/form").json()
    client.post("/logout", headers={**OURS, "x-csrf-token": token})
    assert client.get("/form", headers={"cookie": f"hareline={kept}"}).status_code == 401


@pytest.mark.parametrize(
    "change",
    [{"password": "another long password"}, {"role": Role.VIEWER}, {"disabled": True}],
    ids=["password", "role", "disabled"],
)
def test_who_is_changed_has_to_log_in_again(client: TestClient, control: Control, change: dict[str, object]) -> None:
    users.add(control, "ada", PASSWORD, Role.OPERATOR, by=BOSS)
    log_in(client)
    users.change(control, "ada", by=BOSS, **change)  # type: ignore[arg-type]
    assert client.get("/form").status_code == 401
    assert log_in(client).status_code == (303 if "role" in change else 401)


def test_the_cookie_is_for_this_host_over_tls_only_and_no_script_reads_it(client: TestClient, control: Control) -> None:
    users.add(control, "ada", PASSWORD, Role.VIEWER, by=BOSS)
    plain = log_in(client).headers["set-cookie"]
    assert plain.startswith("hareline=")
    assert "Secure" not in plain
    far = TestClient(client.app, base_url="http://console.example", follow_redirects=False)
    near = TestClient(client.app, base_url="https://127.0.0.1", follow_redirects=False)
    for other, origin in ((far, "http://console.example"), (near, "https://127.0.0.1")):
        cookie = log_in(other, origin=origin).headers["set-cookie"]
        assert cookie.startswith("__Host-hareline=")
        for part in ("HttpOnly", "Path=/", "SameSite=lax", "Secure", "Max-Age=43200"):
            assert part in cookie
        assert "Domain" not in cookie


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"origin": "http://127.0.0.1:9999"},
        {"sec-fetch-site": "same-site", "origin": HERE},
        {},
    ],
)
def test_another_sites_form_does_nothing_with_somebodys_cookie(
    client: TestClient, control: Control, headers: dict[str, str]
) -> None:
    users.add(control, "ada", PASSWORD, Role.OPERATOR, by=BOSS)
    log_in(client)
    token = client.get("/form").json()
    assert client.post("/do/retry_job", headers={**headers, "x-csrf-token": token}).status_code == 403


@pytest.mark.parametrize("token", ["", "x", "é"])
def test_a_form_without_its_sessions_token_does_nothing(client: TestClient, control: Control, token: str) -> None:
    users.add(control, "ada", PASSWORD, Role.OPERATOR, by=BOSS)
    log_in(client)
    assert client.post("/do/retry_job", headers=OURS, data={"csrf_token": token}).status_code == 403
    other = TestClient(client.app, base_url=HERE, follow_redirects=False)
    log_in(other)
    theirs = other.get("/form").json()
    assert client.post("/do/retry_job", headers=OURS, data={"csrf_token": theirs}).status_code == 403


def test_another_site_logs_nobody_in(client: TestClient, control: Control) -> None:
    users.add(control, "ada", PASSWORD, Role.OPERATOR, by=BOSS)
    assert log_in(client, origin="https://evil.example").status_code == 403
    assert "set-cookie" not in log_in(client, origin="https://evil.example").headers


@pytest.mark.parametrize("to", ["https://evil.example", "//evil.example", "/\\evil.example", "javascript:x", "/a\nb"])
def test_a_login_leads_nowhere_else(client: TestClient, control: Control, to: str) -> None:
    users.add(control, "ada", PASSWORD, Role.OPERATOR, by=BOSS)
    answer = client.post("/login", data={"name": "ada", "password": PASSWORD, "to": to}, headers=OURS)
    assert answer.headers["location"] == "/"


def test_a_login_leads_to_where_somebody_wanted_to_go(client: TestClient, control: Control) -> None:
    users.add(control, "ada", PASSWORD, Role.OPERATOR, by=BOSS)
    there = client.get("/jobs", headers={"accept": "text/html"}).headers["location"]
    assert there == "/login?to=%2Fjobs"
    assert 'name="to" value="/jobs"' in client.get(there).text


def test_guesses_have_to_wait_longer_and_longer_and_are_told_how_long(
    client: TestClient, control: Control, trail: AuditQueries
) -> None:
    users.add(control, "ada", PASSWORD, Role.OPERATOR, by=BOSS)
    statuses = [log_in(client, password=f"guess number {number}").status_code for number in range(6)]
    assert statuses == [401] * 5 + [429]
    answer = log_in(client)  # nor is the right one heard before the time
    assert answer.status_code == 429
    assert 1 <= int(answer.headers["retry-after"]) <= 9
    assert len(trail.entries(operation="login", result="refused")) == 5


def test_one_address_has_so_many_guesses_over_all_names(control: Control) -> None:
    for number in range(20):
        with pytest.raises(NotAuthenticated):
            sessions.log_in(control, f"name-{number}", "x", lasts_s=60, by=Who("", "console", address="10.9.9.9"))
    with pytest.raises(Throttled):
        sessions.log_in(control, "name-21", "x", lasts_s=60, by=Who("", "console", address="10.9.9.9"))
    with pytest.raises(NotAuthenticated):
        sessions.log_in(control, "name-21", "x", lasts_s=60, by=Who("", "console", address="10.9.9.8"))


def test_a_name_that_nobody_has_takes_as_much_work_and_says_the_same(
    client: TestClient, control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    users.add(control, "ada", PASSWORD, Role.OPERATOR, by=BOSS)
    users.add(control, "eve", None, Role.OPERATOR, by=BOSS)
    looked: list[str] = []
    verify = PasswordHasher.verify

    def watched(self: PasswordHasher, kept: str, given: str) -> bool:
        looked.append(kept)
        return verify(self, kept, given)

    monkeypatch.setattr(PasswordHasher, "verify", watched)
    said = {re.sub(r'value="\w*"', "", log_in(client, name, "wrong password").text) for name in ("ada", "bob", "eve")}
    assert len(said) == 1
    assert len(looked) == 3
    assert all(kept.startswith("$argon2id$v=19$m=65536,t=3,p=4$") for kept in looked)
    assert log_in(client, "bob", "a password that nobody has").status_code == 401


def test_a_token_lets_a_program_in_without_cookies_or_csrf(
    client: TestClient, control: Control, database_url: str
) -> None:
    made = tokens.create(control, "billing", Role.OPERATOR, expires_in=None, by=BOSS)
    bearer = {"authorization": f"Bearer {made.token}", "origin": "https://elsewhere.example"}
    answer = client.post("/do/retry_job", headers=bearer)
    assert answer.json() == {"by": "api:billing", "operation": "retry_job"}
    assert "set-cookie" not in answer.headers
    asked = AccountQueries(database_url)
    [kept] = asked.tokens()
    assert kept.used_at is not None
    assert made.token not in str(kept)
    asked.close()


@pytest.mark.parametrize("way", ["revoked", "expired", "unknown", "basic", "empty"])
def test_a_token_that_is_not_good_lets_nobody_in(client: TestClient, control: Control, way: str) -> None:
    users.add(control, "ada", PASSWORD, Role.OPERATOR, by=BOSS)
    log_in(client)  # nor does the cookie that comes with it
    ends = timedelta(microseconds=1) if way == "expired" else timedelta(days=1)
    made = tokens.create(control, "billing", Role.OPERATOR, expires_in=ends, by=BOSS)
    if way == "revoked":
        assert tokens.revoke(control, made.id, by=BOSS)
        assert not tokens.revoke(control, made.id, by=BOSS)
    given = {"unknown": "Bearer hareline_x", "basic": f"Basic {made.token}", "empty": ""}
    answer = client.get("/form", headers={"authorization": given.get(way, f"Bearer {made.token}")})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"


def test_only_a_trusted_proxy_says_who_it_is(settings: Settings, control: Control, trail: AuditQueries) -> None:
    users.add(control, "eve", None, Role.ADMIN, by=BOSS)
    app = application(settings)
    told = {"x-forwarded-user": "eve", "x-forwarded-for": "6.6.6.6, 203.0.113.9"}
    with TestClient(app, base_url="https://console.example", client=("10.1.2.3", 1)) as proxy:
        _through(proxy, app, control, trail, told)


def _through(proxy: TestClient, app: FastAPI, control: Control, trail: AuditQueries, told: dict[str, str]) -> None:
    other = TestClient(app, base_url="https://console.example", client=("10.2.2.3", 1))
    assert other.get("/do/list_jobs", headers=told).status_code == 401
    assert proxy.get("/do/list_jobs", headers=told).json()["by"] == "console:eve"
    assert proxy.get("/do/list_jobs", headers={**told, "x-forwarded-user": "bob"}).status_code == 401
    assert proxy.post("/do/retry_job", headers=told).status_code == 403  # no browser said from where
    assert proxy.post("/do/retry_job", headers={**told, "sec-fetch-site": "same-origin"}).status_code == 200
    assert proxy.get("/do/list_jobs").status_code == 401
    users.change(control, "eve", role=Role.VIEWER, by=BOSS)
    proxy.post("/do/retry_job", headers={**told, "sec-fetch-site": "same-origin"})
    [refused] = trail.entries(result="refused")
    assert (refused.name, refused.role, refused.operation, refused.address) == (
        *("eve", "viewer", "retry_job"),
        "203.0.113.9",
    )


@pytest.mark.parametrize("role", Role)
def test_a_role_may_what_the_map_says_and_nothing_else(sqlite_url: str, role: Role) -> None:
    """By direct requests, for every operation that there is."""
    settings = Settings(database_url=sqlite_url)
    control = Control(sqlite_url, "embedded")
    every = tokens.create(control, "all", role, expires_in=None, by=BOSS)
    some = tokens.create(control, "some", role, queues=["billing.*"], expires_in=None, by=BOSS)
    with TestClient(application(settings), base_url=HERE) as client:
        for operation, needed in PERMISSIONS.items():
            if operation == "logout":
                continue
            method = "POST" if writes(operation) or operation == "reveal_job_payload" else "GET"
            for made, scoped in ((every, False), (some, True)):
                answer = client.request(method, f"/do/{operation}", headers={"authorization": f"Bearer {made.token}"})
                fine = role.covers(needed) and not (scoped and operation not in SCOPED)
                assert answer.status_code == (200 if fine or operation == "get_ready" else 403), (operation, scoped)
    control.close()


def test_a_console_that_nobody_could_enter_does_not_start(settings: Settings, control: Control) -> None:
    bare = settings.model_copy(update={"console_trusted_proxies": ""})
    with pytest.raises(SettingsError, match="hareline users add"):
        security.demand_somebody(bare)
    security.demand_somebody(settings)
    users.add(control, "ada", PASSWORD, Role.ADMIN, by=BOSS)
    security.demand_somebody(bare)
    users.change(control, "ada", disabled=True, by=BOSS)
    with pytest.raises(SettingsError):
        security.demand_somebody(bare)


def test_what_cannot_be_a_user_or_a_token_is_refused_with_the_reason(control: Control) -> None:
    refusals: list[tuple[str, Callable[[], object]]] = [
        ("12 to", lambda: users.add(control, "ada", "short", Role.ADMIN, by=BOSS)),
        ("no name", lambda: users.add(control, "a b", PASSWORD, Role.ADMIN, by=BOSS)),
        ("names no queues", lambda: users.add(control, "ada", PASSWORD, Role.ADMIN, queues=["%"], by=BOSS)),
        ("no name", lambda: tokens.create(control, "", Role.ADMIN, expires_in=None, by=BOSS)),
        ("expired already", lambda: tokens.create(control, "x", Role.ADMIN, expires_in=timedelta(0), by=BOSS)),
    ]
    for reason, attempt in refusals:
        with pytest.raises(BadAccount, match=reason):
            attempt()
    users.add(control, "ada", PASSWORD, Role.ADMIN, by=BOSS)
    with pytest.raises(BadAccount, match="there is a user"):
        users.add(control, "ada", PASSWORD, Role.ADMIN, by=BOSS)
    with pytest.raises(NotFound):
        users.change(control, "bob", role=Role.ADMIN, by=BOSS)
    with pytest.raises(NotFound):
        tokens.revoke(control, "nothing", by=BOSS)


def test_changing_nothing_ends_no_session_and_leaves_no_trace(
    client: TestClient, control: Control, trail: AuditQueries
) -> None:
    users.add(control, "ada", PASSWORD, Role.OPERATOR, by=BOSS)
    log_in(client)
    users.change(control, "ada", role=Role.OPERATOR, by=BOSS)
    assert client.get("/form").status_code == 200
    assert trail.entries(operation="change_user") == []

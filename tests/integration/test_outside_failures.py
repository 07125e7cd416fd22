"""Every way in which an outside system can fail, and what the job that asks it does: the decisions, as a table."""

import base64
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pytest
from dramatiq import Message

from actors import llm
from actors.email import Mail, send_email
from actors.embeddings import generate_embedding
from actors.inbox import Notification
from actors.llm import Question, llm_request
from actors.notifications import send_notification
from actors.usage import send_to_posthog
from actors.vectors import Entity, remember
from actors.webhooks import WebhookEvent, deliver_webhook
from hareline_testing import Hareline
from ledger.states import State
from ledger.views import JobView
from tests.mailserver import MailServerForTests
from tests.scripted import QUOTA, Answer, OpenAIServer, Scripted, cut_mid_body, respond, silent, status

pytestmark = pytest.mark.one_database

System = Literal["posthog", "chat", "embeddings", "slack", "webhook"]
AT = datetime(2026, 11, 22, 9, tzinfo=UTC)
RELEASED = threading.Event()
USED = {"customer": "northwind", "user": "ada", "provider": "openai", "model": "gpt-4o", "at": "2026-11-01T00:30:00Z"}
EVENT = USED | {"input_tokens": 1_000, "output_tokens": 100, "latency_ms": 1_200}


def closing(answer: Answer) -> Answer:
    """And hang up, so that the next request has to connect."""

    def answered(request: BaseHTTPRequestHandler) -> None:
        answer(request)
        request.close_connection = True

    return answered


def page(request: BaseHTTPRequestHandler) -> None:
    """Of a proxy, in the place of an answer."""
    request.send_response(200)
    request.send_header("Content-Length", "15")
    request.end_headers()
    request.wfile.write(b"<html>Hi</html>")


FAILURES: Mapping[str, Answer] = {
    "429 in 7 s": status(429, Retry_After="7"),
    "429": status(429),
    "503 in 7 s": status(503, Retry_After="7"),
    "503": status(503),
    "500": status(500),
    "408": status(408),
    "421": status(421),
    "slow": silent(RELEASED),
    "cut": cut_mid_body,
    "no JSON": page,
    "another shape": respond(200, {"unexpected": True}),
    "400": status(400),
    "401": status(401),
    "404": status(404),
    "410": status(410),
    "302": status(302, Location="http://169.254.169.254/"),
    "no credit": QUOTA,
}

#: Come back when told, and it cost an attempt or none; back off by the job's own delay; give up, with this word.
AGAIN, PUT_OFF, BACKS_OFF, DONE = "again in 7 s", "put off for 7 s", "backs off", "done"

ORDINARY = {
    "429 in 7 s": PUT_OFF,
    "429": "put off for 5 s",
    "503 in 7 s": AGAIN,
    "503": BACKS_OFF,
    "500": BACKS_OFF,
    "408": BACKS_OFF,
    "421": BACKS_OFF,
    "slow": BACKS_OFF,
    "cut": BACKS_OFF,
    "no JSON": DONE,  # only the status says whether it was taken
    "another shape": DONE,
    "400": "dead: refused",
    "401": "dead: unauthorized",
    "404": "dead: not_found",
    "410": "dead: refused",
    "302": "dead: refused",
    "no credit": "put off for 5 s",
    "connection refused": BACKS_OFF,
}
MODEL = ORDINARY | {"no JSON": BACKS_OFF, "another shape": BACKS_OFF, "no credit": "dead: insufficient_quota"}
DECISIONS: Mapping[System, Mapping[str, str]] = {
    "posthog": ORDINARY
    | {"429 in 7 s": AGAIN, "429": "again in 5 s", "503": "again in 5 s", "no credit": "again in 5 s"}
    | dict.fromkeys(("400", "401", "404", "410", "302"), "dead: actors.posthog.PostHogRefused"),
    "chat": MODEL,
    "embeddings": MODEL,
    "slack": ORDINARY,
    "webhook": ORDINARY
    | {"429 in 7 s": AGAIN, "429": "again in 5 s", "no credit": "again in 5 s", "410": "dead: actors.webhooks.Gone"},
}


class Outside(NamedTuple):
    """One outside system, and a job that asks it once."""

    server: Scripted
    send: Callable[[str], Message[Any]]


@pytest.fixture
def outside(kit: Hareline, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[System], Outside]]:
    monkeypatch.setenv("HARELINE_HTTP_TIMEOUT_S", "0.3")
    monkeypatch.setenv("HARELINE_OPENAI_TIMEOUT_S", "0.3")
    monkeypatch.setenv("HARELINE_WEBHOOK_NETWORKS", "127.0.0.1")
    monkeypatch.setenv("HARELINE_WEBHOOK_SECRET", "whsec_" + base64.b64encode(b"sixteen bytes ok").decode())
    monkeypatch.setenv("POSTHOG_API_KEY", "phc_test")
    RELEASED.clear()
    with ExitStack() as servers:

        def of(system: System) -> Outside:
            server = servers.enter_context(OpenAIServer() if system in ("chat", "embeddings") else Scripted())
            server.answer = closing(server.answer)
            for variable in ("POSTHOG_URL", "OPENAI_BASE_URL", "HARELINE_SLACK_URL"):
                monkeypatch.setenv(variable, server.url)
            return Outside(server, lambda id: send(system, id, server.url))

        yield of
        RELEASED.set()


def send(system: System, id: str, url: str) -> Message[Any]:
    match system:
        case "posthog":
            return send_to_posthog.send(EVENT | {"request_id": id})
        case "chat":
            asked = [llm.Message(role="user", content="Hello")]
            return llm_request.send(Question(request_id=id, model="gpt-4o", messages=asked))
        case "embeddings":
            entity = Entity(user="ada", type="person", id=id)
            remember(entity, {"name": id})
            return generate_embedding.send(entity)
        case "slack":
            return send_notification.send(Notification(id=id, user="ada", message="Hello", channel="slack"))
        case "webhook":
            return deliver_webhook.send(f"{url}/hook", WebhookEvent(id=id, type="test", at=AT))


def decided(kit: Hareline, job: JobView) -> str:
    """What became of its first attempt."""
    if job.state is State.COMPLETED:
        return DONE
    if job.state is State.FAILED:
        assert job.attempts_spent == 1
        return f"dead: {job.attempts[-1].error_type}"
    wait = round((job.run_at - kit.now).total_seconds())
    if job.attempts_spent == 0:
        return f"put off for {wait} s"
    return f"again in {wait} s" if wait >= 5 else BACKS_OFF


def reason(job: JobView) -> str:
    return job.attempts[-1].error_message or ""


@pytest.mark.parametrize("system", DECISIONS)
def test_each_failure_is_met_as_it_was_decided(
    kit: Hareline, outside: Callable[[System], Outside], system: System
) -> None:
    server, send_one = outside(system)
    found = {}
    for name, failure in FAILURES.items():
        server.script = [closing(failure)]
        message = send_one(f"job {name}")
        kit.drain(raises=False)
        job = kit.job(message)
        found[name] = decided(kit, job)
        if job.state is not State.COMPLETED:
            assert "answered" in reason(job) or "cannot be reached" in reason(job) or "did not answer" in reason(job)
        if job.state is not State.FAILED:
            assert kit.wait_for(message, 120, raises=False).state is State.COMPLETED, name
    server.__exit__()
    message = send_one("job nobody is there")
    kit.drain(raises=False)
    found["connection refused"] = decided(kit, kit.job(message))
    assert found == DECISIONS[system]


@pytest.mark.parametrize("system", ["posthog", "chat", "embeddings", "slack"])
def test_a_system_that_is_down_is_left_alone(
    kit: Hareline, outside: Callable[[System], Outside], system: System
) -> None:
    server, send_one = outside(system)
    server.answer = closing(status(500))
    for number in range(24):
        send_one(f"job {number}")
    for _ in range(8):
        kit.drain(raises=False)
        kit.advance(milliseconds=250)
    asked = len(server.requests)
    message = send_one("one more")
    kit.drain(raises=False)
    assert kit.job(message).attempts_spent == 0, "it was not tried"
    assert len(server.requests) == asked < 40


SMTP = {
    "421 at the mail": ({"MAIL": "421 4.3.2 shutting down"}, BACKS_OFF),
    "450 for the mailbox": ({"RCPT": "450 4.2.0 greylisted"}, "again in 60 s"),
    "451 after the mail": ({".": "451 4.3.0 try later"}, "again in 60 s"),
    "452 full": ({"MAIL": "452 4.3.1 no space"}, "again in 60 s"),
    "no SMTP": ({"EHLO": "hello?", "HELO": "hello?"}, BACKS_OFF),
    "slow": ({"DATA": "silence"}, BACKS_OFF),
    "breaks off": ({"DATA": "hang up"}, BACKS_OFF),
    "breaks off after the mail": ({".": "hang up"}, BACKS_OFF),
    "550 no mailbox": ({"RCPT": "550 5.1.1 no such user"}, "dead: refused"),
    "552 too large": ({".": "552 5.3.4 too big"}, "dead: refused"),
    "554 at the mail": ({"MAIL": "554 5.7.1 no"}, "dead: refused"),
}


def test_each_failure_of_the_mail_server_is_met_as_it_was_decided(
    kit: Hareline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARELINE_HTTP_TIMEOUT_S", "0.3")
    monkeypatch.setenv("HARELINE_MAIL_FROM", "jobs@hareline.example")
    found, expected = {}, {name: decision for name, (_, decision) in SMTP.items()}
    with MailServerForTests(tmp_path) as server:
        monkeypatch.setenv("HARELINE_SMTP_URL", f"smtp+plain://127.0.0.1:{server.port}")
        for name, (script, _) in SMTP.items():
            server.script = script
            message = send_email.send(Mail(id=name, to="ada@example.org", subject="Hello", text="Ada"))
            kit.drain(raises=False)
            found[name] = decided(kit, kit.job(message))
            server.script = {}
            if kit.job(message).state is not State.FAILED:
                assert kit.wait_for(message, 120, raises=False).state is State.COMPLETED, name
        assert len({mail["Message-ID"] for mail in server.mails}) == len(server.mails) == 8
    message = send_email.send(Mail(id="nobody", to="ada@example.org", subject="Hello", text="Ada"))
    kit.drain(raises=False)
    assert decided(kit, kit.job(message)) == BACKS_OFF, "connection refused"
    assert found == expected

"""Ten thousand jobs of all types while one in fifty answers from outside is a failure."""

import base64
import io
import json
import random
import re
import subprocess
import sys
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from actors.database import migrations
from tests.acceptance.system import System
from tests.campaigns.mixed import MAILS
from tests.chain import KEY, ChainServer
from tests.fileserver import FileServer
from tests.gmailserver import GmailServer
from tests.mailserver import MailServerForTests
from tests.program import ROOT
from tests.scripted import Answer, OpenAIServer, Scripted, cut_mid_body, respond, silent, status

#: Of all answers from outside, and the least that completes all the same.
FAILING, COMPLETED = 0.02, 0.999
#: Jobs a minute.
RATE = 10_000
#: What the dead ones say: every one of them was refused for good by somebody outside.
REASONS = {
    "send_to_posthog": r"/batch/ answered 400 .*check POSTHOG_URL and POSTHOG_API_KEY",
    "generate_embedding": r"/embeddings answered 400 .*'\$\.input' is invalid.*check OPENAI_BASE_URL",
    "llm_request": r"/chat/completions answered 404 .*no-such-model.*check OPENAI_BASE_URL.* the model's name",
    "deliver_webhook": r"/gone answered 410 Gone: .*remove this address",
}


class Failing:
    """Makes answers fail now and then, in every way that passes."""

    def __init__(self) -> None:
        self._random = random.Random(7)
        self.count = 0
        self._ways: Sequence[Answer] = (
            respond(500, {"error": {"message": "The server had an error"}}),
            respond(502, "<html>Bad gateway</html>"),
            status(503),
            status(503, Retry_After="1"),
            status(429, Retry_After="1"),
            cut_mid_body,
            silent(threading.Event(), 4),
        )

    def now_and_then(self, answer: Answer) -> Answer:
        def answered(request: BaseHTTPRequestHandler) -> None:
            (self._random.choice(self._ways) if self.happens() else answer)(request)

        return answered

    def happens(self) -> bool:
        if self._random.random() >= FAILING:
            return False
        self.count += 1
        return True


class FailingVerbs(dict[str, str]):
    """What a mail server says now and then instead of what it should."""

    def __init__(self, failing: Failing) -> None:
        super().__init__()
        self._failing = failing

    def get(self, verb: str, default: Any = None) -> Any:
        if verb in ("MAIL", ".") and self._failing.happens():
            return "421 4.3.2 shutting down" if verb == "MAIL" else "hang up"
        return default


def refusing(answer: Answer, refuses: Callable[[BaseHTTPRequestHandler], bool], refusal: Answer) -> Answer:
    def answered(request: BaseHTTPRequestHandler) -> None:
        (refusal if refuses(request) else answer)(request)

    return answered


@pytest.mark.timeout(900)
def test_ten_thousand_jobs_of_all_types_are_done_or_say_why_not(on_rabbitmq: System, tmp_path: Path) -> None:
    migrations(on_rabbitmq.database_url).upgrade()
    (tmp_path / "data").mkdir()
    (tmp_path / "data/rows.csv").write_text("name,age\n" + "Ada,36\n" * 100)
    parquet = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table({"n": list(range(100))}), parquet, row_group_size=30)
    failing = Failing()
    with (
        OpenAIServer() as openai,
        Scripted() as hook,
        Scripted() as slack,
        Scripted() as posthog,
        Scripted() as site,
        FileServer() as files,
        GmailServer() as google,
        ChainServer() as chain,
        MailServerForTests(tmp_path) as mail,
    ):
        files.files["/rows.parquet"] = parquet.getvalue()
        google.per_page = 50
        for n in range(MAILS):
            google.add(f"m{n}")
        chain.tell(1)
        openai.poison = "poisoned"
        no_model = respond(404, {"error": {"message": "The model 'no-such-model' does not exist"}})
        openai.answer = refusing(openai.answer, lambda request: b"no-such-model" in body(request), no_model)
        posthog.answer = refusing(
            status(200), lambda request: b'"refused"' in body(request), respond(400, {"detail": "no such person"})
        )
        hook.answer = refusing(status(200), lambda request: request.path == "/gone", status(410))
        for server in (openai, hook, slack, posthog, site, files, google, chain):
            server.answer = failing.now_and_then(server.answer)
        mail.script = FailingVerbs(failing)
        on_rabbitmq.env |= {
            "WORKER_QUEUE_STALLED_INTERVAL": "30000",
            "OPENAI_BASE_URL": openai.url,
            "POSTHOG_URL": posthog.url,
            "POSTHOG_API_KEY": "phc_test",
            "HARELINE_SLACK_URL": slack.url,
            "HARELINE_SMTP_URL": f"smtp+plain://127.0.0.1:{mail.port}",
            "HARELINE_MAIL_FROM": "jobs@hareline.example",
            "HARELINE_WEBHOOK_SECRET": "whsec_" + base64.b64encode(b"sixteen bytes ok").decode(),
            "HARELINE_WEBHOOK_NETWORKS": "127.0.0.1",
            "HARELINE_BILLING_WEBHOOK_URL": f"{hook.url}/accounting",
            "HARELINE_DATA_DIR": str(tmp_path / "data"),
            "HARELINE_DATA_SOURCES": files.url,
            "HARELINE_CACHE_DIR": str(tmp_path / "cache"),
            "HARELINE_WARMUP_URLS": f"{site.url}/page",
            "HARELINE_CHAIN_RPC_URL": chain.url,
            "HARELINE_CHAIN_ADDRESSES": chain.teller,
            "HARELINE_CHAIN_START_BLOCK": "0",
            "HARELINE_CHAIN_WEBHOOK_URL": f"{hook.url}/chain",
            "HARELINE_CHAIN_DEPLOYER_KEY": KEY,
            "HARELINE_HTTP_TIMEOUT_S": "3",
            "HARELINE_OPENAI_TIMEOUT_S": "3",
            "HARELINE_LOG_LEVEL": "ERROR",
            **google.settings,
        }
        on_rabbitmq.worker(app="actors", processes=2, ready=False).wait_line("ready for action")
        sent = send(on_rabbitmq, hook.url, files.url, google.refresh_token)
        on_rabbitmq.finished(sum(sent.values()), 600)

    states: dict[str, Counter[str]] = defaultdict(Counter)
    for actor, state, count in on_rabbitmq.sql("SELECT actor, state, count(*) FROM jobs GROUP BY actor, state"):
        states[actor][state] += count
    total = sum(sum(counts.values()) for counts in states.values())
    [[took]] = on_rabbitmq.sql("SELECT extract(epoch FROM max(finished_at) - min(created_at)) FROM jobs")
    dead = [
        on_rabbitmq.queries.job(id) for (id,) in on_rabbitmq.sql("SELECT id::text FROM jobs WHERE state = 'failed'")
    ]
    print(f"{total:,} jobs in {took:.1f} s: {total / float(took) * 60:,.0f} a minute; {failing.count} failed answers")
    since_the_first = "extract(epoch FROM max(finished_at) - (SELECT min(created_at) FROM jobs))"
    for actor, last in on_rabbitmq.sql(f"SELECT actor, {since_the_first} FROM jobs GROUP BY actor ORDER BY actor"):
        counts = ", ".join(f"{count:,} {state}" for state, count in sorted(states[actor].items()))
        print(f"  {actor:24} {counts}; the last after {last:.1f} s")
    for job in dead:
        assert job is not None
        print(f"  dead: {job.actor}: {job.attempts[-1].error_message}")

    assert sent.keys() <= states.keys()
    assert total >= 10_000
    assert sum(counts["completed"] for counts in states.values()) >= total * COMPLETED
    assert sum(counts["completed"] + counts["failed"] for counts in states.values()) == total
    for job in dead:
        assert job is not None
        assert re.search(REASONS[job.actor], str(job.attempts[-1].error_message), re.DOTALL), job.attempts[-1]
    assert Counter(job.actor for job in dead if job) == {actor: refused(actor) for actor in REASONS}
    complete(on_rabbitmq, states, mail, posthog)
    assert total / float(took) * 60 >= RATE


def complete(system: System, states: dict[str, Counter[str]], mail: MailServerForTests, posthog: Scripted) -> None:
    """What completed has happened."""
    [[events, unpriced]] = system.sql("SELECT count(*), count(*) FILTER (WHERE cost IS NULL) FROM usage_events")
    assert (events, unpriced) == (states["track_llm_usage"]["completed"], 0)
    assert system.sql("SELECT sum(events) FROM bills")[0][0] == events
    [[mails]] = system.sql("SELECT count(*) FROM mails")
    assert mails == states["send_email"]["completed"]
    assert len({message["Message-ID"] for message in mail.mails}) == mails
    [[delivered]] = system.sql("SELECT count(*) FROM webhook_deliveries")
    assert delivered == states["deliver_webhook"]["completed"]
    assert system.sql("SELECT count(*) FROM letters")[0][0] == MAILS
    uuids = {event["uuid"] for _, sent in posthog.requests for event in sent["batch"]}
    assert len(uuids) == states["send_to_posthog"].total()
    [[rows]] = system.sql("SELECT sum(rows) FROM datasets WHERE finished_at IS NOT NULL")
    assert rows == 100 * states["process_data"]["completed"]


def refused(actor: str) -> int:
    """So many jobs of it meet somebody who will never take them (``mixed.py``)."""
    return {"send_to_posthog": 2, "deliver_webhook": 2}.get(actor, 1)


def send(system: System, *arguments: str) -> dict[str, int]:
    """Have them all sent; how many of each actor."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.campaigns.mixed", *arguments],
        cwd=ROOT,
        env=system.env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as program:
        assert program.stdout is not None
        assert "prepared\n" in iter(program.stdout.readline, "")
        output, _ = program.communicate("go\n", timeout=300)
    assert program.returncode == 0
    found: dict[str, int] = json.loads(output.splitlines()[-1])
    return found


def body(request: BaseHTTPRequestHandler) -> bytes:
    found: bytes = request.body  # type: ignore[attr-defined]
    return found

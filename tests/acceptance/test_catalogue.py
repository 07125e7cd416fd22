"""Every job of the catalogue on both roads, twice, against outside systems that fail before they work."""

import base64
import json
import subprocess
import sys
from pathlib import Path

import pytest

from actors import broker
from actors.database import migrations
from tests.acceptance.conftest import ROADS, carrier, database
from tests.chain import KEY, ChainServer
from tests.gmailserver import BROKEN as BROKEN_AT_GOOGLE
from tests.gmailserver import TOO_FAST, GmailServer
from tests.mailserver import MailServerForTests
from tests.program import ROOT, environment
from tests.scripted import BROKEN, OpenAIServer, Scripted, respond, status

pytestmark = pytest.mark.prove

#: A module whose jobs have tests of their own, with histories; every other job is run here.
OTHERS = ("maintenance",)
CATALOGUE = {
    actor.actor_name for actor in broker.actors.values() if actor.fn.__module__.removeprefix("actors.") not in OTHERS
}
BUSY = respond(429, {"error": {"message": "Rate limit reached"}}, Retry_After="1")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("road", ROADS)
def test_every_job_runs_twice_and_the_second_time_changes_nothing(
    request: pytest.FixtureRequest, road: str, tmp_path: Path
) -> None:
    url, broker_url = database(request, road), carrier(request, road)
    migrations(url).upgrade()
    (tmp_path / "data").mkdir()
    (tmp_path / "data/rows.csv").write_text("name,age\nAda,36\nBob,7\n")
    with (
        OpenAIServer() as openai,
        Scripted() as hook,
        Scripted() as slack,
        Scripted() as site,
        ChainServer() as chain,
        MailServerForTests(tmp_path) as mail,
        GmailServer() as google,
    ):
        for n in range(3):
            google.add(f"m{n}")
        google.faults = [("/messages?", BROKEN_AT_GOOGLE), ("/messages/", TOO_FAST), ("/history", BROKEN_AT_GOOGLE)]
        openai.script = [BUSY, BROKEN]
        hook.script = [status(500), status(429, Retry_After="1")]
        slack.script = [status(502)]
        chain.script = [status(429, Retry_After="1"), status(500)]
        chain.tell(1)
        env = environment(
            DATABASE_URL=url,
            BROKER_URL=broker_url or "embedded",
            OPENAI_BASE_URL=openai.url,
            HARELINE_SLACK_URL=slack.url,
            HARELINE_SMTP_URL=f"smtp+plain://127.0.0.1:{mail.port}",
            HARELINE_MAIL_FROM="jobs@hareline.example",
            HARELINE_WEBHOOK_SECRET="whsec_" + base64.b64encode(b"sixteen bytes ok").decode(),
            HARELINE_WEBHOOK_NETWORKS="127.0.0.1",
            HARELINE_BILLING_WEBHOOK_URL=f"{hook.url}/accounting",
            HARELINE_DATA_DIR=str(tmp_path / "data"),
            HARELINE_CACHE_DIR=str(tmp_path / "cache"),
            HARELINE_WARMUP_URLS=f"{site.url}/page",
            HARELINE_CHAIN_RPC_URL=chain.url,
            HARELINE_CHAIN_ADDRESSES=chain.teller,
            HARELINE_CHAIN_START_BLOCK="0",
            HARELINE_CHAIN_WEBHOOK_URL=f"{hook.url}/chain",
            HARELINE_CHAIN_DEPLOYER_KEY=KEY,
            HARELINE_LOG_LEVEL="ERROR",
            **google.settings,
        )
        program = [sys.executable, "-m", "tests.acceptance.everything", hook.url, google.refresh_token]
        ran = subprocess.run(program, cwd=ROOT, env=env, capture_output=True, text=True, timeout=280, check=False)

    assert ran.returncode == 0, ran.stdout + ran.stderr
    found = json.loads(ran.stdout.splitlines()[-1])
    assert found["why"] == []
    assert {actor for actor, states in found["jobs"].items() if set(states) != {"completed"}} == set()
    assert CATALOGUE - found["jobs"].keys() == set()

    first, second = found["snapshots"]
    assert first == second
    empty = {name for name, rows in first.items() if not rows}
    assert empty == {"chain_halts"}, "tables that nothing was written to, but for what only a dead letter leaves"
    assert chain.methods.count("eth_sendRawTransaction") == 1
    assert len([1 for path, _ in openai.requests]) == 4 + 2, "four were answered, two declined"
    assert sorted(str(message["To"]) for message in mail.mails) == [
        "ada@example.org",
        "ada@example.org",
        "bob@example.org",
    ]
    assert len({message["Message-ID"] for message in mail.mails}) == 3
    posted = [path for path, _ in hook.requests]
    assert len(posted) == 4 + 2
    assert set(posted) == {"/ada", "/direct", "/accounting", "/chain"}
    assert len(slack.requests) == 1 + 1
    assert (google.faults, len(google.asked("format=raw"))) == ([], 3 + 1), "three were fetched, one was declined"

"""A mailbox at Gmail with real processes: the page about it, and a worker that is killed in the middle."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from email.message import EmailMessage
from pathlib import Path

import pytest
from sqlalchemy import create_engine, func, select
from sqlalchemy.pool import NullPool

from actors import tables
from ledger.queries import Queries
from tests.documents import Play, blocks
from tests.gmailserver import GmailServer
from tests.program import ROOT, Program, environment, hareline
from tests.scripted import silent

pytestmark = [pytest.mark.prove, pytest.mark.timeout(300)]


#: One group of processes, so that what is killed is dead; those of ``hareline worker`` are groups of their own.
WORKER = [sys.executable, "-m", "dramatiq", "actors", "--processes", "1", "--threads", "4", "--skip-logging"]


def test_the_page_about_mailboxes_does_what_it_says(tmp_path: Path) -> None:
    with GmailServer() as google:
        google.add("m0")
        google.add("m1", with_a_file())
        google.add("m2")
        told = {
            "1234.apps.googleusercontent.com": "client",
            "GOCSPX-abcd": "s3cret-client",
            "1//0gXYZ": google.refresh_token,
        }
        with Play(tmp_path, environment(PYTHONPATH=str(ROOT), **google.settings), told) as play:
            for block in blocks(ROOT / "docs/how-to/sync-gmail.md"):
                play.play(block)
        assert google.revoked == [google.refresh_token]


def with_a_file() -> bytes:
    mail = EmailMessage()
    mail["Subject"] = "Grüße"
    mail.set_content("The plan.\n")
    mail.add_attachment(b"%PDF", maintype="application", subtype="pdf", filename="plan.pdf")
    return bytes(mail)


def test_a_worker_that_is_killed_within_a_mailbox_leaves_no_mail_out_and_sends_none_twice(tmp_path: Path) -> None:
    released = threading.Event()
    with GmailServer() as google:
        for n in range(5):
            google.add(f"m{n}")
        url = f"sqlite:///{tmp_path / 'hareline.db'}"
        env = environment(DATABASE_URL=url, WORKER_QUEUE_STALLED_INTERVAL="2000", **google.settings)
        (tmp_path / "tokens.json").write_text(json.dumps({"refresh_token": google.refresh_token}))
        subprocess.run(
            hareline("gmail", "connect", "ada", "--tokens", "tokens.json"), cwd=tmp_path, env=env, check=True
        )

        google.faults = [("pageToken=p2", silent(released))]
        with Program(WORKER, tmp_path, env):
            until(lambda: not google.faults, "the second page is asked for")
        released.set()
        with Program(WORKER, tmp_path, env):
            until(lambda: letters(url) == 5, "all mails are kept")

        assert [path.partition("pageToken=")[2] for path in google.asked("maxResults")] == ["", "p2", "p2", "p4"]
        queries = Queries(url)
        actors = [row.actor for row in queries.jobs(limit=100)]
        queries.close()
        assert (actors.count("process_email"), actors.count("sync_gmail")) == (5, 1)


def letters(url: str) -> int:
    with create_engine(url, poolclass=NullPool).connect() as connection:
        return connection.scalar(select(func.count()).select_from(tables.letters)) or 0


def until(holds: Callable[[], bool], what: str) -> None:
    """Another process makes it so, and has no signal for it."""
    deadline = time.monotonic() + 90
    while not holds():
        assert time.monotonic() < deadline, f"not within 90 s: {what}"
        time.sleep(0.1)

"""Mails by a real server that declines in each way it can, and the digest of a day."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote
from zoneinfo import ZoneInfo

import pytest

from actors import inbox
from actors.database import add, database
from actors.email import Mail, daily_digest, digest_id, send_email, was_sent
from actors.inbox import Account, Notification
from actors.outside import NotConfigured, Refused, Unavailable
from actors.tables import notifications
from errors import InvalidPayload, Retry
from hareline_testing import Hareline
from ledger.states import State
from tests.mailserver import PASSWORD, USER, MailServerForTests

pytestmark = pytest.mark.one_database

MAIL = Mail(id="m1", to="grace@example.org", subject="Ünïcode", text="Hello <b>\nthere\n\n.\nfrom . to .")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[MailServerForTests]:
    with MailServerForTests(tmp_path) as found:
        login = f"{USER}:{quote(PASSWORD, safe='')}"
        monkeypatch.setenv("HARELINE_SMTP_URL", f"smtp://{login}@127.0.0.1:{found.port}")
        monkeypatch.setenv("HARELINE_SMTP_CA_FILE", str(found.ca_file))
        monkeypatch.setenv("HARELINE_MAIL_FROM", "jobs@hareline.example")
        yield found


def test_a_mail_is_sent_once_over_tls_as_text_and_html(actors_here: Any, server: MailServerForTests) -> None:
    send_email.fn(MAIL)
    send_email.fn(MAIL)

    [mail] = server.mails
    assert (mail["From"], mail["To"], mail["Subject"]) == ("jobs@hareline.example", "grace@example.org", "Ünïcode")
    text, html = mail.get_body(("plain",)), mail.get_body(("html",))
    assert text is not None
    assert html is not None
    assert text.get_content().split() == MAIL.text.split()
    assert "<p>Hello &lt;b&gt;<br>there</p>" in html.get_content()
    assert server.heard.index("STARTTLS") < server.heard.index("AUTH")
    assert mail["Message-ID"].endswith("@hareline.example>")


def test_two_runs_have_one_message_id(actors_here: Any, server: MailServerForTests) -> None:
    """A worker that dies between the server's answer and the commit: the server is given the same mail again."""
    send_email.fn(MAIL)
    with database().write() as connection:
        connection.exec_driver_sql("DELETE FROM mails")
    send_email.fn(MAIL)

    first, second = server.mails
    assert first["Message-ID"] == second["Message-ID"]


@pytest.mark.parametrize(
    ("verb", "says", "kind", "words"),
    [
        ("RCPT", "550 5.1.1 no such user", Refused, r"550 .*check the address grace@example\.org"),
        ("RCPT", "450 4.2.0 greylisted", Retry, "450"),
        ("MAIL", "553 not yours to send from", Refused, "553 .*HARELINE_MAIL_FROM"),
        (".", "554 looks like spam", Refused, "554"),
        (".", "452 disk full", Retry, "452"),
        ("AUTH", "535 5.7.8 bad credentials", Refused, "535 .*user and password of HARELINE_SMTP_URL"),
        ("AUTH", "454 4.7.0 try again", Retry, "454"),
        ("EHLO", "421 shutting down", Unavailable, "did not take the mail|421"),
        ("DATA", "hang up", Unavailable, "did not take the mail"),
        (".", "hang up", Unavailable, "did not take the mail"),
    ],
)
def test_each_answer_means_what_it_says(
    kit: Hareline, server: MailServerForTests, verb: str, says: str, kind: type, words: str
) -> None:
    server.script = {verb: says} | ({"HELO": says} if verb == "EHLO" else {})
    with pytest.raises(kind, match=words):
        send_email.fn(MAIL)
    assert not was_sent("m1")

    server.script = {}
    send_email.fn(MAIL)
    assert len(server.mails) == 1


def test_a_server_without_tls_is_given_nothing(kit: Hareline, tmp_path: Path, server: MailServerForTests) -> None:
    server.offers = ("AUTH PLAIN",)
    with pytest.raises(Refused, match="cannot do what HARELINE_SMTP_URL asks for"):
        send_email.fn(MAIL)
    assert "AUTH" not in server.heard


def test_a_certificate_nobody_vouches_for_is_refused(
    kit: Hareline, monkeypatch: pytest.MonkeyPatch, server: MailServerForTests
) -> None:
    monkeypatch.delenv("HARELINE_SMTP_CA_FILE")
    with pytest.raises(Refused, match=r"certificate of 127\.0\.0\.1:.* is not trusted"):
        send_email.fn(MAIL)


def test_a_server_that_is_not_there_is_tried_again(kit: Hareline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARELINE_SMTP_URL", "smtp+plain://127.0.0.1:9")
    monkeypatch.setenv("HARELINE_MAIL_FROM", "jobs@hareline.example")
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:9 did not take the mail"):
        send_email.fn(MAIL)


def test_without_a_server_the_job_says_what_to_set(kit: Hareline) -> None:
    with pytest.raises(NotConfigured, match="HARELINE_MAIL_FROM is not set"):
        send_email.fn(MAIL)


def test_a_subject_cannot_smuggle_in_another_header(kit: Hareline) -> None:
    with pytest.raises(InvalidPayload, match="subject"):
        send_email.send(MAIL.model_dump() | {"subject": "Hello\r\nBcc: everybody@example.org"})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "subject", ["Facture payée\u00a0!", "Ada \N{WOMAN}\u200d\N{PERSONAL COMPUTER}", "\N{ZERO WIDTH SPACE}x"]
)
def test_a_subject_of_one_line_arrives_whatever_is_in_it(
    kit: Hareline, server: MailServerForTests, subject: str
) -> None:
    send_email.fn(MAIL.model_copy(update={"subject": subject}))
    [mail] = server.mails
    assert mail["Subject"] == subject


def test_a_mail_has_one_job_at_a_time(kit: Hareline, server: MailServerForTests) -> None:
    for text in ("one", "the same again", "and again"):
        send_email.send(MAIL.model_copy(update={"text": text}))
    kit.assert_enqueued(send_email, count=1)
    kit.drain()
    assert len(server.mails) == 1


def told(id: str, user: str, at: str, message: str = "") -> None:
    row = Notification(id=id, user=user, message=message or f"message {id}").model_dump()
    with database().write() as connection:
        add(connection, notifications, row | {"created_at": datetime.fromisoformat(at).astimezone(UTC)})


def test_the_digest_is_the_day_before_by_the_readers_clock_and_is_mailed_once(
    kit: Hareline, server: MailServerForTests
) -> None:
    inbox.register(Account(user="ada", email="ada@example.org", timezone="America/New_York", digest=True))
    told("too early", "ada", "2026-11-20T23:59:59-05:00")
    told("one", "ada", "2026-11-21T00:00:00-05:00")
    told("two", "ada", "2026-11-21T23:59:59-05:00")
    told("too late", "ada", "2026-11-22T00:00:00-05:00")
    told("not hers", "bob", "2026-11-21T12:00:00-05:00")

    for _ in range(2):
        daily_digest.send("ada", "2026-11-22")
        kit.drain()

    [mail] = server.mails
    assert mail["Subject"] == "2 notifications of Saturday, 21 November"
    text = mail.get_body(("plain",))
    assert text is not None
    assert text.get_content().splitlines()[:2] == ["00:00  message one", "23:59  message two"]
    assert was_sent(digest_id("ada", "2026-11-22"))


def test_a_day_on_which_much_was_told_is_mailed_as_far_as_it_fits(kit: Hareline, server: MailServerForTests) -> None:
    inbox.register(Account(user="ada", email="ada@example.org", digest=True))
    for number in range(50):
        told(f"n{number:02}", "ada", "2026-11-21T12:00:00+00:00", "\N{OWL}" * 4_000 + "\nand more")
    daily_digest.send("ada", "2026-11-22")
    kit.drain()

    [mail] = server.mails
    assert mail["Subject"] == "50 notifications of Saturday, 21 November"
    text = mail.get_body(("plain",))
    assert text is not None
    *lines, last = text.get_content().strip().splitlines()
    assert lines == ["12:00  " + "\N{OWL}" * 199 + "…"] * len(lines)
    assert len(lines) > 15
    assert last == f"and {50 - len(lines)} more"


def test_however_long_the_server_is_away_a_morning_is_looked_at_once(kit: Hareline, server: MailServerForTests) -> None:
    noon = f"Etc/GMT{datetime.now(UTC).hour - 12:+d}"
    for user in ("ada", "bob"):
        inbox.register(Account(user=user, email=f"{user}@example.org", timezone=noon, digest=True))
    day = datetime.now(UTC).astimezone(ZoneInfo(noon)) - timedelta(days=1)
    told("one", "ada", day.isoformat())
    server.script = {"MAIL": "451 4.3.0 try later"}
    for _ in range(3):
        daily_digest.send()
        kit.drain(raises=False)
    kit.assert_enqueued(daily_digest, "ada", count=1)
    kit.assert_enqueued(daily_digest, "bob", count=1)
    [job] = kit.assert_enqueued(send_email)
    server.script = {}
    assert kit.wait_for(job.id, raises=False).state is State.COMPLETED
    assert len(server.mails) == 1


def zone_where_it_is(hour: int) -> str:
    """``Etc/GMT+3`` is three hours behind."""
    behind = datetime.now(UTC).hour - hour
    return f"Etc/GMT{behind - 24 if behind > 12 else behind:+d}"


def test_the_digest_of_all_goes_to_those_whose_morning_it_is_and_who_want_one(kit: Hareline) -> None:
    morning, night = zone_where_it_is(10), zone_where_it_is(3)
    inbox.register(Account(user="ada", email="ada@example.org", timezone=morning, digest=True))
    inbox.register(Account(user="bob", email="bob@example.org", timezone=morning))
    inbox.register(Account(user="eve", timezone=morning, digest=True))
    inbox.register(Account(user="joe", email="joe@example.org", timezone=night, digest=True))
    daily_digest.send()

    assert kit.drain() == 2
    [job] = kit.assert_enqueued(daily_digest, "ada")
    assert job.state is State.COMPLETED

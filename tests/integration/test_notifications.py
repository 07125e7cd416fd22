"""Telling people things: each channel, once."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import func, select

from actors import inbox
from actors.database import database
from actors.email import send_email
from actors.inbox import Account, Deadline, Notification
from actors.notifications import deadline_reminder, queue_notification, queue_reminder, send_notification
from actors.outside import NotConfigured, Refused, Unavailable
from actors.tables import notifications
from actors.webhooks import deliver_webhook
from errors import RateLimited
from hareline_testing import Hareline
from ledger.states import State
from tests.scripted import Scripted, status

pytestmark = pytest.mark.one_database


@pytest.fixture
def slack(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scripted]:
    with Scripted() as server:
        monkeypatch.setenv("HARELINE_SLACK_URL", f"{server.url}/services/T0/B0/s3cret")
        yield server


def count() -> int:
    with database().read() as connection:
        return connection.scalar(select(func.count()).select_from(notifications)) or 0


def test_a_notification_is_in_the_inbox_once(actors_here: Any) -> None:
    note = Notification(id="n1", user="ada", message="Your workflow is complete!", data={"flow": 7})
    send_notification.fn(note)
    send_notification.fn(note.model_copy(update={"message": "another"}))

    now = datetime.now(UTC)
    [(_, kept)] = inbox.between("ada", now - timedelta(minutes=5), now + timedelta(minutes=5))
    assert kept == note
    assert inbox.between("bob", now - timedelta(minutes=5), now + timedelta(minutes=5)) == []


def test_a_text_that_no_database_takes_is_told(actors_here: Any) -> None:
    note = Notification(id="n\0", user="ada\0", message="\0", title="\0", data={"\0": ["\0"]})
    send_notification.fn(note)
    assert count() == 1
    assert "\0" not in note.model_dump_json()


def test_mail_and_webhook_are_jobs_of_the_account(kit: Hareline) -> None:
    inbox.register(Account(user="ada", email="ada@example.org", webhook_url="https://ada.example/hook"))
    for channel in ("email", "webhook", "email"):
        queue_notification("ada", "Hello", channel=channel, id=f"n-{channel}", type="error", data={"order": 7})
    kit.drain("notifications")

    kit.assert_enqueued(send_email, count=1)
    [hook] = kit.assert_enqueued(deliver_webhook, count=1)
    assert count() == 2
    assert hook.message is not None
    assert hook.message["args"][1]["type"] == "notification.error"
    assert hook.message["args"][1]["data"]["data"] == {"order": 7}


@pytest.mark.parametrize(
    ("title", "message", "subject"),
    [
        ("Facture payée\u202f!", "m", "Facture payée\u202f!"),
        ("Ada \N{WOMAN}\u200d\N{PERSONAL COMPUTER} joined", "m", "Ada \N{WOMAN}\u200d\N{PERSONAL COMPUTER} joined"),
        ("a\nb\u2028c", "m", "a b c"),
        ("", "\r\n\nHello\x1b[1m\nthere", "Hello [1m"),
        ("\x01", "\x02", "reminder"),
    ],
)
def test_what_is_accepted_can_be_mailed_whatever_its_title_is(
    kit: Hareline, title: str, message: str, subject: str
) -> None:
    inbox.register(Account(user="ada", email="ada@example.org"))
    job = kit.wait_for(queue_notification("ada", message, title=title, channel="email", id="ü" * 300), raises=False)
    assert job.state is State.COMPLETED
    [mail] = kit.assert_enqueued(send_email)
    assert mail.message is not None
    assert mail.message["args"][0]["subject"] == subject


def test_whom_nobody_can_reach_is_a_dead_letter_that_says_so(kit: Hareline) -> None:
    inbox.register(Account(user="ada"))
    for user, words in (("ada", "user 'ada' has no e-mail address"), ("bob", "user 'bob' has no account")):
        job = kit.wait_for(queue_notification(user, "Hello", channel="email"), raises=False)
        assert job.state is State.FAILED
        assert words in str(job.attempts[-1].error_message)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [(status(429, Retry_After="30"), RateLimited), (status(500), Unavailable), (status(404), Refused)],
)
def test_slack_is_told_once_however_often_it_declined(
    actors_here: Any, slack: Scripted, answer: Any, kind: type[Exception]
) -> None:
    note = Notification(id="n1", user="ada", title="Deadline", message="Now.", channel="slack")
    slack.script = [answer]
    with pytest.raises(kind) as raised:
        send_notification.fn(note)
    assert "s3cret" not in str(raised.value)

    send_notification.fn(note)
    send_notification.fn(note)
    assert slack.requests[1:] == [("/services/T0/B0/s3cret", {"text": "*Deadline*\nNow."})]


def test_without_slack_the_job_says_what_to_set(kit: Hareline) -> None:
    with pytest.raises(NotConfigured, match="HARELINE_SLACK_URL is not set"):
        send_notification.fn(Notification(id="n1", user="ada", message="x", channel="slack"))


def test_a_reminder_comes_at_its_moment_and_moves_with_the_deadline(kit: Hareline) -> None:
    due = datetime.now(UTC) + timedelta(hours=2)
    inbox.set_deadline(Deadline(id="d1", user="ada", title="Taxes", due_at=due))
    first = queue_reminder("d1", 30)
    assert kit.job(first).run_at == pytest.approx(due - timedelta(minutes=30), abs=timedelta(seconds=5))

    inbox.set_deadline(Deadline(id="d1", user="ada", title="Taxes", due_at=due + timedelta(hours=1)))
    queue_reminder("d1", 30)
    [job] = kit.assert_enqueued(deadline_reminder)
    assert job.run_at == pytest.approx(due + timedelta(minutes=30), abs=timedelta(seconds=5))


def test_a_reminder_of_a_deadline_that_is_due_is_sent_once_and_of_a_dropped_one_never(kit: Hareline) -> None:
    inbox.set_deadline(Deadline(id="d1", user="ada", title="Taxes", due_at=datetime.now(UTC)))
    for _ in range(2):
        queue_reminder("d1")
        kit.drain()
    assert count() == 1

    inbox.drop_deadline("d1")
    deadline_reminder.send("d1", 5)
    kit.drain()
    assert count() == 1
    with pytest.raises(ValueError, match="there is no deadline 'd1'"):
        queue_reminder("d1")


def test_a_reminder_that_comes_too_early_waits_for_the_deadline_that_was_put_off(kit: Hareline) -> None:
    inbox.set_deadline(Deadline(id="d1", user="ada", title="Taxes", due_at=datetime.now(UTC) + timedelta(days=1)))
    message = deadline_reminder.send("d1", 30)
    kit.drain()
    job = kit.job(message)
    assert (job.state, job.attempts_spent, count()) == (State.DELAYED, 0, 0)

"""Mailboxes at Gmail: read once, from where the last attempt was, whatever Google answers."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import select

from actors import inbox, letters, mailboxes
from actors.access import fresh
from actors.connections import Grant, connect, disconnect
from actors.database import database
from actors.email import send_email
from actors.email_sync import process_email, refresh_token, sync_gmail, sync_gmail_incremental
from actors.gmail import Gmail, Missing, StalePage, Unauthorized, gmail
from actors.mailbox_schedule import schedule_of, stop
from actors.oauth import Revoked
from actors.outside import NotConfigured, Refused, Unavailable
from actors.tables import letters as table
from control.keys import rotate
from control.transaction import Control
from errors import BadInput, Failure, NotFound, RateLimited, Snooze
from hareline_testing import Hareline
from ledger.queries import Queries
from ledger.schedule_queries import ScheduleQueries
from ledger.sealing import KeyRing
from ledger.states import State
from settings import load
from tests.gmailserver import (
    ADDRESS,
    BROKEN,
    FORBIDDEN,
    INVALID_CLIENT,
    INVALID_GRANT,
    NOT_FOUND,
    PROJECT_TOO_FAST,
    TOO_FAST,
    UNAUTHORIZED,
    USER_TOO_FAST,
    GmailServer,
)
from tests.scripted import Answer, cut_mid_body, respond, silent, status

pytestmark = pytest.mark.one_database

OLD, NEW = "old:" + "A" * 43 + "=", "new:" + "B" * 42 + "A="


@pytest.fixture
def google(monkeypatch: pytest.MonkeyPatch) -> Iterator[GmailServer]:
    with GmailServer() as server:
        for name, value in server.settings.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("HARELINE_KEYS", OLD)
        yield server


@pytest.fixture
def connected(kit: Hareline, google: GmailServer) -> GmailServer:
    """Ada's mailbox with five mails, connected, and not read yet."""
    for n in range(5):
        google.add(f"m{n}", b"Subject: Mail %d\r\n\r\nHello\r\n" % n)
    assert connect("ada", grant(google)) == ADDRESS
    return google


def grant(google: GmailServer) -> Grant:
    return Grant.parse({"access_token": "x", "refresh_token": google.refresh_token, "scope": "y"})


def kept() -> list[str]:
    with database().read() as connection:
        return list(connection.scalars(select(table.c.id).order_by(table.c.id)))


def mailbox() -> mailboxes.Mailbox:
    found = mailboxes.find(ADDRESS)
    assert found is not None
    return found


def since(google: GmailServer) -> list[str]:
    """Where each look at the history began."""
    return [path.partition("startHistoryId=")[2].partition("&")[0] for path in google.asked("/history")]


def told(user: str = "ada") -> list[str]:
    now = datetime.now(UTC)
    return [note.type for _, note in inbox.between(user, now - timedelta(days=1), now + timedelta(days=1))]


def schedules(kit: Hareline) -> list[str]:
    asked = ScheduleQueries(kit.broker.ledger.url)
    try:
        return list(asked.keys())
    finally:
        asked.close()


def test_a_mailbox_that_is_connected_is_read_page_by_page_and_once(kit: Hareline, connected: GmailServer) -> None:
    assert schedule_of(ADDRESS).key in schedules(kit)
    kit.drain()
    assert kept() == ["m0", "m1", "m2", "m3", "m4"]
    found = letters.find(ADDRESS, "m3")
    assert found is not None
    assert (found["subject"], found["thread"], found["labels"], found["size"]) == ("Mail 3", "tm3", ["INBOX"], 26)
    assert [path.partition("pageToken=")[2] for path in connected.asked("maxResults")] == ["", "p2", "p4"]
    assert (mailbox().history_id, mailbox().full_from, mailbox().listed) == (connected.history_id, None, 5)
    assert told() == ["sync-complete"]

    fetched = len(connected.requests)
    sync_gmail.send(ADDRESS)
    process_email.send(ADDRESS, "m3")
    kit.drain()
    kit.assert_enqueued(process_email, count=5 + 1)
    assert len(connected.requests) - fetched == 1 + 3, "the profile, and three pages"
    assert (len(kept()), told()) == (5, ["sync-complete"])


def test_an_attempt_begins_at_the_page_where_the_last_one_ended(kit: Hareline, connected: GmailServer) -> None:
    connected.script = [connected.answer, connected.answer, BROKEN]
    [job] = kit.assert_enqueued(sync_gmail)
    with pytest.raises(Unavailable):
        kit.drain()
    assert (mailbox().page, mailbox().listed, mailbox().full_from) == ("p2", 2, "1050")
    connected.add("late")  # found by the history, which begins before the first page

    assert kit.wait_for(job.id).state is State.COMPLETED
    kit.drain()
    assert [path.partition("pageToken=")[2] for path in connected.asked("maxResults")] == ["", "p2", "p2", "p4"]
    kit.assert_enqueued(process_email, count=5)  # the newest is on the page that was read
    sync_gmail_incremental.send(ADDRESS)
    kit.drain()
    assert kept() == ["late", "m0", "m1", "m2", "m3", "m4"]


def test_the_page_that_is_asked_for_is_where_the_first_attempt_begins_only(
    kit: Hareline, connected: GmailServer
) -> None:
    kit.drain()
    before = len(connected.asked("maxResults"))
    connected.script = [connected.answer, connected.answer, BROKEN]
    job = sync_gmail.send(ADDRESS, "p2")
    assert kit.wait_for(job, raises=False).attempts_spent == 2
    pages = [path.partition("pageToken=")[2] for path in connected.asked("maxResults")]
    assert pages[before:] == ["p2", "p4", "p4"]


def test_a_page_that_google_has_forgotten_is_no_end(kit: Hareline, connected: GmailServer) -> None:
    sync_gmail.send_with_options(args=(ADDRESS, "p99"), unique=None)
    kit.drain()
    assert len(kept()) == 5
    with pytest.raises(StalePage):
        gmail().messages(fresh(ADDRESS), "nonsense")


def test_a_look_at_the_history_finds_what_came_and_nothing_twice(kit: Hareline, connected: GmailServer) -> None:
    kit.drain()
    for n in range(5, 10):
        connected.add(f"m{n}")
    connected.add("ad", b"Subject: Buy\r\n\r\n", "SPAM")
    fetched = len(connected.asked("format=raw"))
    for _ in range(2):
        sync_gmail_incremental.send(ADDRESS)
        kit.drain()

    assert kept() == [f"m{n}" for n in range(10)]
    assert len(connected.asked("format=raw")) - fetched == 5
    assert mailbox().history_id == connected.history_id
    assert since(connected) == ["1050"] * 3 + ["1110"]


def test_a_look_that_breaks_off_goes_on_behind_the_last_page(kit: Hareline, connected: GmailServer) -> None:
    kit.drain()
    for n in range(5, 8):
        connected.add(f"m{n}")
    connected.script = [connected.answer, BROKEN]
    job = sync_gmail_incremental.send(ADDRESS)
    assert kit.wait_for(job, raises=False).state is State.COMPLETED
    assert [path.partition("startHistoryId=")[2][:4] for path in connected.asked("/history")] == [
        "1050",
        "1050",
        "1070",
    ]
    kit.drain()
    assert len(kept()) == 8


def test_a_history_that_google_has_forgotten_leads_to_a_full_sync(kit: Hareline, connected: GmailServer) -> None:
    kit.drain()
    connected.add("m5")
    connected.forgotten = 1_055
    sync_gmail_incremental.send(ADDRESS)
    kit.drain()
    kit.assert_enqueued(sync_gmail, count=2)
    assert (len(kept()), mailbox().history_id) == (6, "1060")


def test_every_five_minutes_a_mailbox_is_looked_at(kit: Hareline, connected: GmailServer) -> None:
    kit.drain()
    found = ScheduleQueries(kit.broker.ledger.url)
    try:
        row = found.one(schedule_of(ADDRESS).key)
        assert row is not None
        assert (row.actor, row.schedule and row.schedule.args, row.state) == (
            "sync_gmail_incremental",
            (ADDRESS,),
            "active",
        )
    finally:
        found.close()


def test_without_a_client_a_look_is_left_out_and_all_else_says_what_is_missing(
    kit: Hareline, google: GmailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HARELINE_GOOGLE_CLIENT_ID")
    assert kit.wait_for(sync_gmail_incremental.send(ADDRESS)).state is State.COMPLETED
    with pytest.raises(NotConfigured, match="HARELINE_GOOGLE_CLIENT_ID is not set"):
        connect("ada", grant(google))
    assert google.requests == []


# -- access


def test_a_token_that_is_refused_is_refreshed_once_within_the_attempt(kit: Hareline, connected: GmailServer) -> None:
    connected.expire()
    kit.drain()
    assert (len(kept()), len(connected.asked("/token"))) == (5, 1 + 1)
    assert {job.attempts_spent for job in kit.jobs()} == {1}

    connected.add("m5")
    connected.script = [UNAUTHORIZED, connected.answer, UNAUTHORIZED]
    job = kit.wait_for(process_email.send(ADDRESS, "m5"), raises=False)
    assert (job.state, job.attempts_spent, len(connected.asked("/token"))) == (State.FAILED, 1, 3)
    assert "unauthorized" in str(job.attempts[-1].error_type)


def test_a_token_that_ends_soon_is_refreshed_ahead(kit: Hareline, connected: GmailServer) -> None:
    kit.drain()
    refresh_token.send(ADDRESS)
    kit.drain()
    assert len(connected.asked("/token")) == 1
    for minutes, refreshed in ((40, 1), (10, 2), (5, 2)):
        kit.advance(minutes=minutes)
        sync_gmail_incremental.send(ADDRESS)
        kit.drain()
        assert len(connected.asked("/token")) == refreshed


def test_tokens_that_came_while_the_old_ones_were_refused_stay(kit: Hareline, connected: GmailServer) -> None:
    """Who has withdrawn access grants it again, and a job is just told that the old grant is not good."""
    kit.drain()
    connected.add("m5")
    connected.expire()

    def meanwhile(request: BaseHTTPRequestHandler) -> None:
        connected.refresh_token = "1//refresh-1"
        connect("ada", grant(connected))
        INVALID_GRANT(request)

    connected.oauth_script = [meanwhile]
    job = kit.wait_for(process_email.send(ADDRESS, "m5"), raises=False)
    assert (job.state, job.attempts_spent) == (State.COMPLETED, 1)
    tokens = mailbox().tokens
    assert tokens is not None
    assert tokens.refresh == SecretStr("1//refresh-1")
    assert schedule_of(ADDRESS).key in schedules(kit)
    assert "error" not in told()


def test_whoever_ends_the_schedule_late_leaves_it_to_a_mailbox_that_is_connected_again(
    kit: Hareline, connected: GmailServer
) -> None:
    stop(ADDRESS)
    assert schedule_of(ADDRESS).key in schedules(kit)


def test_one_job_at_a_time_refreshes_and_the_others_wait(kit: Hareline, connected: GmailServer) -> None:
    connected.expire()
    raised: list[BaseException] = []

    def meanwhile(request: BaseHTTPRequestHandler) -> None:
        try:
            fresh(ADDRESS, refused="ya29.access-1")
        except Snooze as error:
            raised.append(error)
        connected.answer(request)

    connected.script = [meanwhile]
    token = fresh(ADDRESS, refused="ya29.access-1")
    assert ([type(x) for x in raised], token, len(connected.asked("/token"))) == ([Snooze], "ya29.access-3", 2)
    assert fresh(ADDRESS, refused="ya29.access-1") == token, "whoever was refused the old one takes the new one"


def test_who_dies_while_it_refreshes_keeps_the_others_waiting_for_a_while_only(
    kit: Hareline, connected: GmailServer
) -> None:
    with database().write() as connection:
        until = database().time(connection) + timedelta(seconds=20)
        mailboxes.change(connection, ADDRESS, refreshing_until=until)
    connected.expire()
    job = kit.wait_for(process_email.send(ADDRESS, "m1"))
    assert (job.state, job.attempts_spent) == (State.COMPLETED, 1)
    assert len(connected.asked("/token")) == 2


def test_access_that_was_withdrawn_ends_it_and_its_owner_is_told_once(kit: Hareline, connected: GmailServer) -> None:
    inbox.register(inbox.Account(user="ada", email="ada@work.example"))
    kit.drain()
    for n in range(5, 8):
        connected.add(f"m{n}")
    connected.expire()
    connected.oauth_script = [INVALID_GRANT]
    jobs = [process_email.send(ADDRESS, f"m{n}") for n in range(5, 8)]
    kit.drain("email-sync", raises=False)

    states = sorted(kit.job(job).state for job in jobs)
    assert states == [State.COMPLETED, State.COMPLETED, State.FAILED], "one finds out, to the others it does not matter"
    [failed] = [kit.job(job) for job in jobs if kit.job(job).state is State.FAILED]
    assert (failed.attempts_spent, failed.attempts[-1].error_type) == (1, "invalid_grant")
    assert (mailbox().tokens, len(kept()), schedule_of(ADDRESS).key in schedules(kit)) == (None, 5, False)
    assert "invalid_grant" in str(mailbox().why)
    kit.drain("notifications")
    assert sorted(told()) == ["error", "sync-complete"]
    kit.assert_enqueued(send_email, count=1)

    connect("ada", grant(connected))
    kit.drain("email-sync")
    assert (len(kept()), schedule_of(ADDRESS).key in schedules(kit)) == (8, True)


@pytest.mark.parametrize(
    ("answer", "kind"), [(BROKEN, Unavailable), (INVALID_CLIENT, Refused), (respond(200, {"no": "token"}), Unavailable)]
)
def test_a_token_that_cannot_be_had_just_now_is_not_lost(
    kit: Hareline, connected: GmailServer, answer: Answer, kind: type[Exception]
) -> None:
    connected.expire()
    connected.oauth_script = [answer]
    with pytest.raises(kind):
        fresh(ADDRESS, refused="ya29.access-1")
    assert mailbox().refreshing_until is None
    assert fresh(ADDRESS, refused="ya29.access-1") == "ya29.access-3"


def test_tokens_are_nowhere_in_clear(
    kit: Hareline, connected: GmailServer, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    connected.expire()
    connected.oauth_script = [BROKEN, cut_mid_body, respond(200, "ya29.access-9 1//refresh-0")]
    kit.drain(raises=False)
    kit.wait_for(sync_gmail.send(ADDRESS), raises=False)
    assert len(connected.asked("/token")) > 3
    assert "1//" not in repr(mailbox())
    kit.broker.close()
    output = "".join(capfd.readouterr())
    for secret in ("1//refresh-0", "ya29.access", "s3cret-client"):
        assert secret not in output
        for path in tmp_path.rglob("*"):
            if path.is_file():
                assert secret.encode() not in path.read_bytes(), path


def test_keys_are_rotated_under_the_tokens(
    kit: Hareline, connected: GmailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARELINE_KEYS", f"{NEW},{OLD}")
    control, queries = Control(load().database_url, "embedded"), Queries(load().database_url)
    assert queries.keys(mailboxes.places())["mailboxes"] == {"old": 1}
    done = rotate(control, KeyRing.of(load()), by="test", places=mailboxes.places())
    assert (done.rows["mailboxes"], queries.keys(mailboxes.places())["mailboxes"]) == (1, {"new": 1})
    monkeypatch.setenv("HARELINE_KEYS", NEW)
    mailboxes.ring.forget()
    assert fresh(ADDRESS) == "ya29.access-1"
    monkeypatch.setenv("HARELINE_KEYS", OLD)
    mailboxes.ring.forget()
    with pytest.raises(Failure, match="under the key 'new'"):
        fresh(ADDRESS)
    assert connect("ada", grant(connected)) == ADDRESS, "who lost a key connects again"
    assert fresh(ADDRESS) == "ya29.access-2"
    monkeypatch.setenv("HARELINE_KEYS", NEW)
    mailboxes.ring.forget()
    assert not disconnect(ADDRESS), "forgotten, and not given back"
    assert mailbox().tokens is None
    queries.close()
    control.close()


# -- what Google answers


@pytest.fixture
def client(google: GmailServer) -> Iterator[Gmail]:
    found = Gmail(google.url, timeout_s=1, check="the test")
    yield found
    found.close()


@pytest.mark.parametrize(
    ("answer", "kind", "delay_ms"),
    [
        (TOO_FAST, RateLimited, 7_000),
        (USER_TOO_FAST, RateLimited, 5_000),
        (PROJECT_TOO_FAST, RateLimited, 5_000),
        (respond(403, {"error": {"errors": [{"reason": "dailyLimitExceeded"}]}}), RateLimited, 3_600_000),
        (respond(429, {"error": {"message": "Retry after 2099-01-01T00:00:00.000Z"}}), RateLimited, 3_600_000),
        (FORBIDDEN, Refused, None),
        (UNAUTHORIZED, Unauthorized, None),
        (NOT_FOUND, Missing, None),
        (BROKEN, Unavailable, None),
        (status(502), Unavailable, None),
        (cut_mid_body, Unavailable, None),
        (respond(200, "<html>a proxy's page"), Unavailable, None),
        (respond(200, {"historyId": "x", "emailAddress": "a"}), Unavailable, None),
    ],
)
def test_each_answer_means_what_it_says(
    client: Gmail, google: GmailServer, answer: Answer, kind: type[Exception], delay_ms: int | None
) -> None:
    google.issued = 1
    google.script = [answer]
    with pytest.raises(kind) as raised:
        client.profile("ya29.access-1")
    assert type(raised.value) is kind
    if isinstance(raised.value, RateLimited):
        assert raised.value.delay_ms == delay_ms
    assert client.profile("ya29.access-1").email_address == ADDRESS


def test_who_is_silent_is_not_waited_for(client: Gmail, google: GmailServer) -> None:
    released = threading.Event()
    google.script = [silent(released)]
    with pytest.raises(Unavailable, match="did not answer within 1 s"):
        client.profile("t")
    released.set()


def test_an_account_that_is_too_fast_is_left_alone(kit: Hareline, connected: GmailServer) -> None:
    kit.drain()
    for n in range(5, 8):
        connected.add(f"m{n}")
    connected.script = [TOO_FAST]
    jobs = [process_email.send(ADDRESS, f"m{n}") for n in range(5, 8)]
    asked = len(connected.requests)
    kit.drain()
    assert len(connected.requests) == asked + 1, "the others of this account wait as well"
    assert [kit.wait_for(job).attempts_spent for job in jobs] == [1, 1, 1]
    assert len(kept()) == 8


def test_a_mail_is_kept_when_google_is_back_and_one_that_was_deleted_is_nobodys_concern(
    kit: Hareline, connected: GmailServer
) -> None:
    kit.drain()
    connected.add("m5")
    connected.script = [BROKEN, cut_mid_body, status(503, Retry_After="3")]
    job = kit.wait_for(process_email.send(ADDRESS, "m5"), raises=False)
    assert (job.state, job.attempts_spent) == (State.COMPLETED, 4)
    assert kit.wait_for(process_email.send(ADDRESS, "gone")).state is State.COMPLETED
    assert "gone" not in kept()


def test_a_hostile_mail_is_kept_with_what_is_wrong_with_it(actors_here: Any, google: GmailServer) -> None:
    google.add(
        "bad",
        b"Subject: \xff\0\x1b[31m\r\nTo: " + b"(" * 9_000 + b"\r\nContent-Type: text/plain; charset=x\r\n\r\n\0\xff",
    )
    connect("ada", grant(google))
    process_email.fn(ADDRESS, "bad")
    process_email.fn(ADDRESS, "bad")
    found = letters.find(ADDRESS, "bad")
    assert found is not None
    assert (found["subject"], found["text"]) == ("\ufffd [31m", "ÿ")
    assert found["problems"] == ["To cannot be read (RecursionError)", "the charset 'x' is not known"]
    assert len(google.asked("format=raw")) == 1


# -- connecting


def test_a_mailbox_is_one_users_and_connecting_again_changes_its_tokens(kit: Hareline, connected: GmailServer) -> None:
    kit.drain()
    with pytest.raises(BadInput, match="connected for 'ada'"):
        connect("bob", grant(connected))
    connected.refresh_token = "1//refresh-1"
    connect("ada", grant(connected))
    found = mailbox().tokens
    assert found is not None
    assert found.refresh == SecretStr("1//refresh-1")
    assert mailbox().history_id == connected.history_id, "what is known of it stays"


def test_what_google_refuses_is_not_connected(actors_here: Any, google: GmailServer) -> None:
    with pytest.raises(Revoked, match="invalid_grant"):
        connect("ada", Grant(refresh_token=SecretStr("1//stolen")))
    with pytest.raises(BadInput, match="no refresh_token in it") as raised:
        Grant.parse({"access_token": "ya29.secret"})
    assert "ya29" not in str(raised.value)
    assert mailboxes.every() == []


def test_a_mailbox_that_is_disconnected_is_not_asked_for_any_more(kit: Hareline, connected: GmailServer) -> None:
    kit.drain()
    assert disconnect(ADDRESS)
    assert disconnect(ADDRESS), "twice is once"
    assert connected.revoked == [connected.refresh_token]
    assert (mailbox().tokens, schedule_of(ADDRESS).key in schedules(kit), len(kept())) == (None, False, 5)
    asked = len(connected.requests)
    for actor in (sync_gmail, sync_gmail_incremental, refresh_token):
        assert kit.wait_for(actor.send(ADDRESS)).state is State.COMPLETED
    assert len(connected.requests) == asked

    assert disconnect(ADDRESS, forget=True)
    assert (mailboxes.find(ADDRESS), kept()) == (None, [])
    with pytest.raises(NotFound, match="no mailbox"):
        disconnect(ADDRESS)


@pytest.mark.parametrize("answer", [BROKEN, TOO_FAST, INVALID_CLIENT, status(503, Retry_After="3")])
def test_tokens_are_forgotten_though_google_does_not_take_them_back(
    kit: Hareline, connected: GmailServer, answer: Answer
) -> None:
    connected.oauth_script = [answer]
    assert not disconnect(ADDRESS)
    assert mailbox().tokens is None

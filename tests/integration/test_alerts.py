"""What changes is told, once, to real servers; on both databases."""

import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import update

from broker import build
from broker.watch import Watch
from control import Control, alerts
from control.destinations import destinations
from control.health import Finding, Health, Rules, check
from errors import BadInput
from ledger.alerts import Level
from ledger.engine import Database
from ledger.events import Happened, JobEvent
from ledger.notice import Notice
from ledger.queries import Queries
from ledger.schedule_queries import ScheduleQueries
from ledger.tables import alerts as stood
from ledger.tables import deliveries
from middleware.notify_admin import NotifyAdmin
from settings import QueueSettings, Settings
from tests.integration.mailbox import Mailbox, Posts, mailbox, posts

pytestmark = pytest.mark.prove

#: Names as an attacker would choose them: a header, a terminal's and a mail's commands, a mention, a link.
HOSTILE = "a\r\nBcc: eve@evil.test\x1b[2J\x1b]0;owned\x07\u202e<!channel><http://evil.test|x>\r\n.\r\n"
CALM_S = 60.0


@pytest.fixture
def box() -> Iterator[Mailbox]:
    with mailbox() as found:
        yield found


@pytest.fixture
def web() -> Iterator[Posts]:
    with posts() as found:
        yield found


def settings_of(database_url: str, web: Posts, box: Mailbox, **more: Any) -> Settings:
    return Settings(
        database_url=database_url,
        alert_webhook_url=SecretStr(web.url),
        alert_webhook_secret=SecretStr("a secret of the two"),
        alert_slack_url=SecretStr(web.url),
        alert_mail_to="ops@example.test, night@example.test",
        smtp_url=f"smtp+plain://127.0.0.1:{box.port}",
        mail_from="hareline@example.test",
        **more,
    )


def finding(value: float, queue: str = "mail", rule: str = "waiting") -> Finding:
    level = Level.CRITICAL if value > 1000 else Level.WARNING if value > 100 else Level.OK
    return Finding(queue, rule, level, value, 100, 1000, f"{value:g} jobs wait")


def judge(control: Control, *findings: Finding, to: tuple[str, ...] = (), calm_s: float = 0.0) -> list[Notice]:
    return alerts.judge(control, Health(datetime.now(UTC), Level.OK, findings), to, calm_s=calm_s)


def told(notices: list[Notice]) -> list[tuple[str, str]]:
    return [(notice.kind, notice.level) for notice in notices]


def test_only_changes_are_told_and_the_recovery(control: Control, queries: Queries) -> None:
    assert judge(control, finding(50)) == []
    assert told(judge(control, finding(150))) == [("alert", "warning")]
    assert judge(control, finding(160)) == []
    assert told(judge(control, finding(5000))) == [("alert", "critical")]
    assert judge(control, finding(4000)) == []
    assert told(judge(control, finding(500))) == [("recovery", "warning")]
    [notice] = judge(control, finding(3))
    assert (notice.kind, notice.level, notice.queue, notice.rule) == ("recovery", "ok", "mail", "waiting")
    assert "well again" in notice.subject
    assert alerts.listing(queries) == []
    changed = [(x.was, x.level) for x in alerts.history(queries)]
    assert changed == [("warning", "ok"), ("critical", "warning"), ("warning", "critical"), ("ok", "warning")]


def test_what_was_to_be_told_to_a_destination_that_is_gone_is_given_up(
    control: Control, queries: Queries, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    judge(control, finding(150), to=("removed",))
    assert alerts.deliver(control, {}) == 0
    assert [row.due_at is None for row in alerts.recent(queries)] == [False]
    with database.write() as connection:
        connection.execute(update(deliveries).values(created_at=datetime.now(UTC) - alerts.KEPT - timedelta(hours=1)))
    assert alerts.deliver(control, {}) == 0
    assert alerts.recent(queries) == []
    assert "to removed is given up" in caplog.text


def test_what_is_not_looked_at_any_more_is_told_to_be_well_with_what_it_was(
    control: Control, queries: Queries, database: Database
) -> None:
    judge(control, finding(150))
    assert judge(control, calm_s=CALM_S) == []
    assert judge(control, calm_s=CALM_S) == []
    with database.write() as connection:
        connection.execute(update(stood).values(calm_at=datetime.now(UTC) - timedelta(seconds=2 * CALM_S)))
    [notice] = judge(control, calm_s=CALM_S)
    over = "over, or not looked at any more: 150 jobs wait"
    assert (notice.level, notice.subject) == ("ok", f"[hareline] well again: queue mail, {over}")
    assert notice.lines == (over, "rule waiting", "before: warning")


def test_around_a_threshold_nothing_flaps(control: Control, queries: Queries) -> None:
    assert told(judge(control, finding(101), calm_s=CALM_S)) == [("alert", "warning")]
    for value in (99, 101, 99, 0, 101, 0, 98, 102):
        assert judge(control, finding(value), calm_s=CALM_S) == []
    assert [(x.level, x.told) for x in alerts.listing(queries)] == [(Level.WARNING, Level.WARNING)]


def test_better_counts_once_it_has_been_so_for_a_while_and_with_a_margin() -> None:
    now = datetime.now(UTC)
    settled = alerts.settled
    assert settled(Level.WARNING, None, finding(85), now, CALM_S) == (Level.WARNING, None), "within the margin"
    assert settled(Level.WARNING, None, finding(70), now, CALM_S) == (Level.WARNING, now)
    before = now - timedelta(seconds=CALM_S - 1)
    assert settled(Level.WARNING, before, finding(70), now, CALM_S) == (Level.WARNING, before)
    before = now - timedelta(seconds=CALM_S)
    assert settled(Level.WARNING, before, finding(70), now, CALM_S) == (Level.OK, None)
    assert settled(Level.CRITICAL, before, finding(700), now, CALM_S) == (Level.WARNING, None)
    assert settled(Level.WARNING, before, finding(2000), now, CALM_S) == (Level.CRITICAL, None), "worse counts at once"


def test_by_however_many_it_is_judged_a_change_is_told_once(
    control: Control, queries: Queries, database_url: str
) -> None:
    count, found = 6, []
    start = threading.Barrier(count)

    def one() -> None:
        mine = Control(database_url, "embedded")
        start.wait()
        found.extend(judge(mine, finding(150), finding(2000, queue="other"), to=("log", "mail")))
        mine.close()

    threads = [threading.Thread(target=one) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted((x.queue, x.level) for x in found) == [("mail", "warning"), ("other", "critical")]
    assert len(alerts.recent(queries)) == 4


def test_one_change_is_delivered_once_to_a_webhook_slack_and_a_mailbox(
    control: Control, queries: Queries, database_url: str, web: Posts, box: Mailbox
) -> None:
    to = destinations(settings_of(database_url, web, box))
    assert sorted(to) == ["log", "mail", "slack", "webhook"]
    [notice] = judge(control, finding(1500), to=tuple(to))
    counts: list[int] = []
    threads = [threading.Thread(target=lambda: counts.append(alerts.deliver(control, to))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sum(counts) == 4
    assert alerts.deliver(control, to) == 0
    [mail] = box.mails
    assert mail["Subject"] == notice.subject == "[hareline] CRITICAL: queue mail, 1500 jobs wait"
    assert mail["To"] == "ops@example.test, night@example.test"
    assert mail["Message-ID"] == f"<{notice.id}@hareline>"
    assert "critical above 1000" in mail.get_content()
    [posted] = [n for n, headers in enumerate(web.headers) if "X-Hareline-Signature" in headers]
    body = json.loads(web.bodies[posted])
    assert (body["id"], body["level"], body["queue"], body["rule"]) == (notice.id, "critical", "mail", "waiting")
    when, _, made = web.headers[posted]["X-Hareline-Signature"].removeprefix("t=").partition(",v1=")
    expected = hmac.new(b"a secret of the two", f"{when}.".encode() + web.bodies[posted], hashlib.sha256).hexdigest()
    assert made == expected
    [slack] = [json.loads(body) for n, body in enumerate(web.bodies) if n != posted]
    assert "CRITICAL: queue mail" in slack["text"]
    assert {x.destination for x in alerts.recent(queries) if x.delivered_at} == set(to)


def test_a_delivery_that_fails_is_tried_again_and_given_up_at_last(
    control: Control, queries: Queries, database_url: str, web: Posts, box: Mailbox, caplog: pytest.LogCaptureFixture
) -> None:
    to = {"webhook": destinations(settings_of(database_url, web, box))["webhook"]}
    judge(control, finding(150), to=tuple(to))
    web.status = 503
    assert alerts.deliver(control, to) == 0
    [delivery] = alerts.recent(queries)
    assert (delivery.tries, delivery.delivered_at, delivery.error) == (1, None, "it answered 503")
    assert alerts.deliver(control, to) == 0
    assert len(web.bodies) == 1, "not before its time"
    _make_due(control)
    web.status = 200
    assert alerts.deliver(control, to) == 1
    judge(control, finding(5000), to=tuple(to))
    web.status = 302
    for _ in range(alerts.TRIES):
        _make_due(control)
        alerts.deliver(control, to)
    [last, _] = alerts.recent(queries)
    assert (last.tries, last.due_at, last.delivered_at) == (alerts.TRIES, None, None)
    assert "is given up" in caplog.text
    assert web.url not in caplog.text, "the address is a secret"


def _make_due(control: Control) -> None:
    from sqlalchemy import update

    from ledger.tables import deliveries

    due = update(deliveries).where(deliveries.c.due_at.is_not(None))
    control.run(lambda tx: tx.connection.execute(due.values(due_at=tx.now)), by="a test")


def test_a_mailbox_that_is_refused_is_an_error_in_words(
    control: Control, database_url: str, web: Posts, box: Mailbox
) -> None:
    box.refuse = b"550 no such mailbox"
    to = destinations(settings_of(database_url, web, box))
    failed = alerts.try_out(to, datetime.now(UTC))
    assert {name for name, error in failed.items() if error} == {"mail"}
    assert "no such mailbox" in failed["mail"]


def test_what_is_muted_is_told_when_the_mute_ends(control: Control, queries: Queries) -> None:
    judge(control, finding(150))
    alerts.mute(control, "mail", "waiting", 3600, by="ann")
    assert judge(control, finding(5000)) == []
    [view] = alerts.listing(queries)
    assert (view.level, view.told, view.muted_by) == (Level.CRITICAL, Level.WARNING, "ann")
    alerts.mute(control, "mail", "waiting", 0, by="ann")
    assert told(judge(control, finding(5000))) == [("alert", "critical")]
    alerts.mute(control, "quiet", "failed", 3600, by="ann")
    assert judge(control, finding(5000), finding(500, queue="quiet", rule="failed")) == []
    with pytest.raises(BadInput, match="no rule"):
        alerts.mute(control, "mail", "wating", 60, by="ann")


def test_ten_thousand_dead_letters_make_one_message(
    control: Control, database_url: str, web: Posts, box: Mailbox
) -> None:
    to = destinations(settings_of(database_url, web, box))
    listener = NotifyAdmin(lambda counted: alerts.note_dead(control, counted, by="a test"))
    at = datetime.now(UTC)
    event = JobEvent(Happened.FAILED, "0" * 36, "m", "charge", "billing", at, error_type="ValueError")
    ids = [f"00000000-0000-7000-8000-{n:012x}" for n in range(10_000)]
    for n, id in enumerate(ids):
        kind = replace(event, job=id, error_type="KeyError") if n % 10 == 0 else replace(event, job=id)
        listener.dead(kind)
        if n % 4000 == 0:
            listener.write()
    listener.write()
    assert alerts.digest(control, list(to), every_s=3600) is None, "they are gathered first"
    notice = alerts.digest(control, list(to), every_s=0)
    assert notice is not None
    assert notice.subject == "[hareline] 10,000 dead letters on queue billing"
    assert notice.lines[0].startswith("9,000 of charge on billing: ValueError; the last is 00000000")
    assert alerts.digest(control, list(to), every_s=0) is None
    alerts.deliver(control, to)
    assert len(box.mails) == 1
    assert len(web.bodies) == 2


def test_hostile_names_are_inert_wherever_they_are_told(
    control: Control, database_url: str, web: Posts, box: Mailbox, caplog: pytest.LogCaptureFixture
) -> None:
    to = destinations(settings_of(database_url, web, box))
    judge(control, finding(5000, queue=HOSTILE), to=tuple(to))
    counted = {(HOSTILE, HOSTILE, HOSTILE, HOSTILE): (1, "00000000-0000-7000-8000-000000000000")}
    alerts.note_dead(control, counted, by="a test")
    alerts.digest(control, list(to), every_s=0)
    assert alerts.deliver(control, to) == 8
    assert len(box.mails) == 2
    for mail in box.mails:
        assert mail["Bcc"] is None
        assert mail["To"] == "ops@example.test, night@example.test"
        assert all(c.isprintable() or c in "\r\n" for c in mail.get_content())
        assert str(mail["Subject"]).isprintable()
    texts = [json.loads(body)["text"] for body in web.bodies if b'"mrkdwn"' in body]
    assert len(texts) == 2
    assert [text for text in texts if "<!channel>" in text or "<http" in text] == []
    assert "\x1b" not in caplog.text
    assert "\u202e" not in caplog.text
    assert all(body.isascii() for body in web.bodies)


def test_the_watch_of_a_worker_judges_and_tells(database_url: str, web: Posts, box: Mailbox) -> None:
    settings = settings_of(
        database_url, web, box, queues={"mail": QueueSettings(health="waiting=2/50")}, alert_calm_s=0
    )
    with ExitStack() as stack:
        broker = build(settings)
        stack.callback(broker.close)
        broker.declare_queue("mail")
        schedules = ScheduleQueries(database_url)
        stack.callback(schedules.close)
        import dramatiq

        @dramatiq.actor(broker=broker, queue_name="mail")
        def write() -> None: ...

        watch = Watch(broker, settings)
        watch.look()
        assert box.mails == []
        broker.enqueue_many([write.message() for _ in range(3)])
        found = check(broker.queries, schedules, Rules.of(settings))
        assert [(x.queue, x.rule, x.level) for x in found.findings if x.level is not Level.OK] == [
            ("mail", "waiting", Level.WARNING)
        ]
        watch.look()
        watch.look()
        assert [mail["Subject"] for mail in box.mails] == ["[hareline] WARNING: queue mail, 3 jobs wait"]
        broker.flush("mail")
        watch.look()
        assert [mail["Subject"] for mail in box.mails][1:] == ["[hareline] well again: queue mail, 0 jobs wait"]

"""The feed of events: everything once at least, in an order that no late commit can break, on both databases."""

import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from control import Control
from control.feed import Feed
from control.followers import forget, off, overview, seek
from control.jobs import cancel, remove, retry
from errors import BadCursor, EventsLost, UnknownEvent
from ledger.events import Happened, JobEvent
from ledger.records import Buried, Keep
from ledger.states import Outcome, Reason
from ledger.tables import attempts, feed, journal
from tests.ledger_under_test import LedgerUnderTest, new_job

NONE_KEPT = Keep(completed=0, completed_s=0, failed=0, failed_s=0)


@pytest.fixture
def ledger(database_url: str) -> Iterator[LedgerUnderTest]:
    under_test = LedgerUnderTest(database_url, "embedded")
    yield under_test
    under_test.close()


@pytest.fixture
def control(ledger: LedgerUnderTest) -> Iterator[Control]:
    opened = Control(ledger.url, "embedded")
    yield opened
    opened.close()


def told(ledger: LedgerUnderTest, name: str | None = None, **options: Any) -> list[JobEvent]:
    """Everything there is to be told now."""
    with Feed(ledger.url, name, wait=False, **options) as events:
        return list(events)


def names(ledger: LedgerUnderTest, name: str | None = None, **options: Any) -> list[tuple[str, str]]:
    return [(event.event.value, event.job) for event in told(ledger, name, **options)]


def follow(ledger: LedgerUnderTest, name: str = "billing") -> None:
    """From now on, by this name."""
    assert told(ledger, name) == []


def test_while_nobody_follows_nothing_is_written_for_the_feed(ledger: LedgerUnderTest) -> None:
    ledger.finished()
    ledger.finished(Outcome.FAILED)
    ledger.session.bury([Buried(new_job().id, "m", "q", "", b"x", Reason.MALFORMED, "no")])
    assert ledger.rows(feed) == []
    assert {row["tx"] for row in (*ledger.rows(attempts), *ledger.rows(journal))} == {None}


def test_every_way_to_end_is_told_in_the_order_in_which_it_happened(ledger: LedgerUnderTest, control: Control) -> None:
    follow(ledger)
    done = ledger.finished(result=b"1", result_ttl_ms=60_000)
    failed = ledger.finished(Outcome.FAILED, reason=Reason.DISCARDED)
    again, epoch = ledger.active()
    ledger.finish(again, epoch, Outcome.RETRYING, delay_ms=60_000, error_type="ValueError", error_message="odd")
    cancel(control, again.id, by="cli:ada")
    retry(control, failed.id, by="cli:ada")
    late = ledger.enqueue(expires_ms=1)
    buried = new_job().id
    ledger.session.bury([Buried(buried, "m", "q", "", b"x", Reason.MALFORMED, "no JSON")])
    expired: list[str] = []
    while not expired:
        expired = ledger.session.expire(10)
    remove(control, done.id, by="cli:ada")
    found = told(ledger, "billing")
    assert [(event.event.value, event.job) for event in found] == [
        # the first attempt's row went with its job
        ("failed", failed.id),
        ("retrying", again.id),
        ("cancelled", again.id),
        ("retried", failed.id),
        ("buried", buried),
        ("expired", late.id),
        ("removed", done.id),
    ]
    by_name = {event.event: event for event in found}
    retrying = by_name[Happened.RETRYING]
    assert (retrying.error_type, retrying.error_message, retrying.attempt) == ("ValueError", "odd", 1)
    assert retrying.by == f"worker {ledger.worker}"
    assert (by_name[Happened.BURIED].reason, by_name[Happened.BURIED].error_message) == ("malformed", "no JSON")
    assert by_name[Happened.EXPIRED].reason == "expired"
    assert (by_name[Happened.REMOVED].by, by_name[Happened.REMOVED].actor) == ("cli:ada", "act")
    assert told(ledger, "billing") == []


def test_a_completed_job_is_told_with_all_that_is_known(ledger: LedgerUnderTest) -> None:
    follow(ledger)
    job = ledger.finished(result=b"1", result_ttl_ms=60_000)
    plain = ledger.finished()
    [event, other] = told(ledger, "billing")
    [attempt] = ledger.rows(attempts, job)
    assert (event.event, event.job, event.message_id) == (Happened.COMPLETED, job.id, job.message_id)
    assert (event.actor, event.queue, event.attempt, event.has_result) == ("act", "q", 1, True)
    assert event.at == attempt["finished_at"]
    assert (other.job, other.has_result) == (plain.id, False)


def test_crashes_and_quarantines_are_told(ledger: LedgerUnderTest) -> None:
    follow(ledger)
    job = ledger.enqueue()
    for _ in range(4):
        worker = ledger.join()
        ledger.claim(job, worker=worker)
        ledger.silence(worker)
        ledger.session.rescue(3600)
    assert names(ledger, "billing") == [("crashed", job.id)] * 4 + [("quarantined", job.id)]


def test_a_follower_goes_on_behind_what_it_had_dealt_with(ledger: LedgerUnderTest) -> None:
    follow(ledger)
    made = [ledger.finished() for _ in range(4)]
    with Feed(ledger.url, "billing") as events:
        turns = iter(events)
        assert [next(turns).job for _ in range(3)] == [job.id for job in made[:3]]
    # Whether the third was dealt with, nobody knows.
    with Feed(ledger.url, "billing") as events:
        turns = iter(events)
        assert next(turns).job == made[2].id
        events.commit()
    assert [job for _, job in names(ledger, "billing")] == [made[3].id]


def test_a_cursor_is_a_place_for_anybody(ledger: LedgerUnderTest) -> None:
    follow(ledger)
    made = [ledger.finished() for _ in range(3)]
    first, *_ = told(ledger, "billing")
    assert [job for _, job in names(ledger, after=first.cursor)] == [job.id for job in made[1:]]
    assert [job for _, job in names(ledger, after="oldest")] == [job.id for job in made]
    assert told(ledger) == [], "without one it begins now"


def test_only_what_is_asked_for_is_told(ledger: LedgerUnderTest) -> None:
    follow(ledger)
    follow(ledger, "others")
    dead, other = ledger.finished(Outcome.FAILED), ledger.finished(queue="mail", actor="write")
    assert names(ledger, "billing", names=["dead"]) == [("failed", dead.id)]
    assert names(ledger, "others", queue="mail", actor="write") == [("completed", other.id)]
    assert names(ledger, "others") == [], "what was not asked for is passed by, too"


def test_history_is_told_as_before(ledger: LedgerUnderTest) -> None:
    follow(ledger)
    job = ledger.finished(Outcome.FAILED, reason=Reason.REFUSED)
    assert ledger.session.retain({}, NONE_KEPT, history_s=3600) == 1
    [event] = told(ledger, "billing")
    assert (event.job, event.reason, event.actor) == (job.id, "refused", "act")


def test_who_is_too_late_is_told_that_events_are_lost(ledger: LedgerUnderTest, control: Control) -> None:
    follow(ledger)
    follow(ledger, "audit")
    ledger.finished()
    ledger.session.retain({}, NONE_KEPT, history_s=0)
    with pytest.raises(EventsLost, match=r"billing.*seek billing"):
        told(ledger, "billing")
    assert [(x.name, x.lost) for x in overview(ledger.url).followers] == [("audit", True), ("billing", True)]
    seek(control, "billing", "now", by="cli:ada")
    job = ledger.finished()
    assert names(ledger, "billing") == [("completed", job.id)]


def test_who_followed_before_it_was_off_is_told(ledger: LedgerUnderTest, control: Control) -> None:
    follow(ledger)
    ledger.finished()
    [before] = told(ledger, "billing")
    off(control, by="cli:ada")
    ledger.finished()
    assert ledger.rows(attempts)[-1]["tx"] is None
    with pytest.raises(EventsLost, match="seek billing"):
        told(ledger, "billing")
    if ledger.database.sqlite:
        with pytest.raises(EventsLost):
            told(ledger, after=before.cursor)
    seek(control, "billing", "oldest", by="cli:ada")
    assert told(ledger, "billing") == []
    assert forget(control, "billing", by="cli:ada")
    assert not forget(control, "billing", by="cli:ada")


def test_how_far_behind_everybody_is_can_be_seen(ledger: LedgerUnderTest) -> None:
    assert not overview(ledger.url).kept
    follow(ledger)
    follow(ledger, "audit")
    for _ in range(3):
        ledger.finished()
    told(ledger, "audit")
    found = overview(ledger.url)
    assert found.kept
    assert [(x.name, x.behind, x.lost) for x in found.followers] == [("audit", 0, False), ("billing", 3, False)]


@pytest.mark.parametrize("cursor", ["x", "", "1.2", "1.0.nobody.1", "1.7.0190b6d8-3a48-7cde-9f00-000000000000.1"])
def test_what_is_no_cursor_is_refused(ledger: LedgerUnderTest, cursor: str) -> None:
    with pytest.raises(BadCursor):
        Feed(ledger.url, after=cursor)


def test_a_cursor_of_another_database_is_refused(ledger: LedgerUnderTest) -> None:
    follow(ledger)
    with pytest.raises(EventsLost, match="ahead of this database"):
        told(ledger, after="9000000000000000")


def test_the_nearest_event_is_named(ledger: LedgerUnderTest) -> None:
    with pytest.raises(UnknownEvent, match="'complete' is no event; the nearest is 'completed'"):
        Feed(ledger.url, names=["complete"])
    with pytest.raises(UnknownEvent, match="only listeners"):
        Feed(ledger.url, names=["started"])
    with pytest.raises(UnknownEvent, match="no event is named"):
        Feed(ledger.url, names=[])


def test_a_transaction_that_commits_late_is_told_all_the_same(postgres_url: str) -> None:
    ledger = LedgerUnderTest(postgres_url, "embedded")
    follow(ledger)
    late, late_epoch = ledger.active()
    soon, soon_epoch = ledger.active()
    with psycopg.connect(postgres_url) as held:
        [(number,)] = held.execute("SELECT pg_current_xact_id()::text::bigint").fetchall()
        ledger.finish(soon, soon_epoch, Outcome.COMPLETED)
        [row] = ledger.rows(attempts, soon)
        assert row["tx"] > number, "a cursor that remembered the highest number would be past the other one"
        assert told(ledger, "billing") == [], "nothing is told before it is known what comes before it"
        assert (overview(postgres_url).held_up_s or 0) > 0
        held.execute(
            "INSERT INTO attempts (job_id, epoch, number, outcome, worker_id, started_at, finished_at, tx)"
            " VALUES (%s, %s, 1, 'completed', 1, now(), now(), pg_current_xact_id()::text::bigint)",
            (late.id, late_epoch),
        )
    assert names(ledger, "billing") == [("completed", late.id), ("completed", soon.id)]
    ledger.close()


def test_a_finish_under_way_when_the_feed_is_turned_on_is_before_it_or_in_it(postgres_url: str) -> None:
    """The one that turns it on waits for whoever writes, so no finish that comes later does not know of it."""
    ledger = LedgerUnderTest(postgres_url, "embedded")
    job, epoch = ledger.active()
    with psycopg.connect(postgres_url) as held:
        held.execute("LOCK TABLE attempts IN ROW EXCLUSIVE MODE")
        follower = threading.Thread(target=told, args=[ledger])
        follower.start()
        with psycopg.connect(postgres_url, autocommit=True) as look:
            waiting = "SELECT 1 FROM pg_locks WHERE NOT granted AND mode = 'ShareRowExclusiveLock'"
            while not look.execute(waiting).fetchall():
                assert follower.is_alive()
        finisher = threading.Thread(target=ledger.finish, args=[job, epoch, Outcome.COMPLETED])
        finisher.start()
        with psycopg.connect(postgres_url, autocommit=True) as look:
            while not look.execute("SELECT 1 FROM pg_locks WHERE NOT granted AND mode = 'RowExclusiveLock'").fetchall():
                assert finisher.is_alive()
    follower.join(10)
    finisher.join(10)
    assert names(ledger, after="oldest") == [("completed", job.id)]
    ledger.close()

"""The audit trail: every deed is in it, in the deed's own transaction; who tampers with it is found out."""

import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from control import Control, alerts, circuits, jobs, limits, queues, users
from control import audit as verbs
from control.followers import seek
from control.permissions import Role
from control.who import Who
from errors import IllegalTransition, LedgerError
from ledger import open_ledger
from ledger.audit_queries import AuditQueries
from ledger.engine import Database
from ledger.ledger import Session
from ledger.orders import Knob
from tests.ledgers import claim, join, new_job

ADA = Who("ada", "api", "operator", token="t1", address="10.0.0.7", request="r1", operation="pause_queue")


@pytest.fixture
def tamper(database_url: str) -> Iterator[Callable[..., None]]:
    """Runs a statement, with the triggers or without them, as somebody may who owns the database."""
    database = Database(database_url)

    def run(statement: str, *, guarded: bool = False) -> None:
        with database.write() as connection:
            if not guarded and database.sqlite:
                for trigger in ("audit_change", "audit_delete", "audit_insert"):
                    connection.execute(text(f"DROP TRIGGER IF EXISTS {trigger}"))
            elif not guarded:
                connection.execute(text("ALTER TABLE audit DISABLE TRIGGER ALL"))
            connection.execute(text(statement))

    yield run
    database.close()


def some(control: Control, count: int = 5) -> None:
    for number in range(count):
        queues.pause(control, f"queue-{number}", by=ADA)


def test_a_deed_is_put_down_with_who_did_it_from_where_and_to_what(control: Control, trail: AuditQueries) -> None:
    queues.pause(control, "letters", by=ADA)
    [entry] = trail.entries()
    assert (entry.name, entry.via, entry.role, entry.token, entry.address, entry.request) == (
        *("ada", "api", "operator"),
        *("t1", "10.0.0.7", "r1"),
    )
    assert (entry.seq, entry.operation, entry.count, entry.result) == (1, "pause_queue", 1, "done")
    assert json.loads(entry.target) == {"queue": "letters"}
    assert abs(datetime.now(UTC) - entry.at) < timedelta(minutes=1)


def test_a_verb_that_failed_or_changed_nothing_is_not_in_it(control: Control, trail: AuditQueries) -> None:
    assert limits.restore(control, "nothing", by=ADA) is False
    with pytest.raises(Exception, match="no job"):
        jobs.cancel(control, "0198c5a0-0000-7000-8000-000000000000", by=ADA)
    assert trail.entries() == []


def test_a_verb_that_finds_everything_as_asked_for_writes_nothing(
    control: Control, trail: AuditQueries, session: Session
) -> None:
    letter = new_job()
    worker = join(session)
    session.enqueue([letter])
    claim(session, worker, letter)
    users.add(control, "bob", None, Role.VIEWER, by=ADA)
    at = seek(control, "me", "now", by=ADA)
    before = len(trail.entries())
    verbs: list[Callable[[], object]] = [
        lambda: queues.pause(control, "letters", by=ADA),
        lambda: queues.resume(control, "letters", by=ADA),
        lambda: queues.drain(control, "letters", by=ADA),
        lambda: queues.resume(control, "letters", by=ADA),
        lambda: queues.change(control, "letters", {Knob.RATE: "10/s"}, by=ADA),
        lambda: queues.restore(control, "letters", by=ADA),
        lambda: circuits.hold_open(control, "upstream", 60, by=ADA),
        lambda: circuits.close(control, "upstream", by=ADA),
        lambda: alerts.mute(control, "letters", "failed", 60, by=ADA),
        lambda: alerts.mute(control, "letters", "failed", 0, by=ADA),
        lambda: jobs.cancel(control, letter.id, by=ADA),
        lambda: users.change(control, "bob", role=Role.OPERATOR, by=ADA),
    ]
    for n, verb in enumerate(verbs):
        verb()
        assert len(trail.entries()) == before + n + 1
    for twice in (*verbs[1::2], verbs[10]):
        twice()
    assert seek(control, "me", at, by=ADA) == at
    assert len(trail.entries()) == before + len(verbs)


def test_what_was_there_before_and_after_is_in_it(control: Control, trail: AuditQueries) -> None:
    limits.change(control, "queue:letters", 10, 1, 2, by=ADA)
    for _ in range(2):
        limits.change(control, "queue:letters", 5, 1, 2, by=ADA)
    limits.restore(control, "queue:letters", by=ADA)
    circuits.hold_open(control, "upstream", 60, by=ADA)
    circuits.close(control, "upstream", by=ADA)
    closed, opened, restored, again, first = (json.loads(entry.change)[0] for entry in trail.entries())
    was = {"count": 10, "per_s": 1, "burst": 2}
    assert (first["was"], again["was"], again["count"]) == ("the code's", was, 5)
    assert restored["was"] == was | {"count": 5}
    assert opened["was"] == "closed"
    assert closed["was"].startswith("open until ")


def test_however_much_of_a_queue_is_changed_at_once_it_says_of_which(control: Control, trail: AuditQueries) -> None:
    queues.change(control, "media", {Knob.RATE: "5/s", Knob.CONCURRENCY: 2}, by=ADA)
    queues.restore(control, "media", by=ADA)
    rules = {"queue": "media", "rule": ["slots:queue:media", "queue:media"]}
    assert [(entry.count, json.loads(entry.target)) for entry in trail.entries()] == [(2, rules)] * 2
    limits.change(control, "actor:send", 10, 1, 2, by=ADA)
    assert json.loads(trail.entries()[0].target) == {"rule": "actor:send"}


def test_it_commits_with_the_deed_or_not_at_all(control: Control, trail: AuditQueries, database_url: str) -> None:
    def verb(tx: object) -> None:
        queues._set(tx, "letters", paused=True)  # type: ignore[arg-type]
        tx.note(None, "paused", {"queue": "letters"})  # type: ignore[attr-defined]
        tx.conclude()  # type: ignore[attr-defined]
        raise IllegalTransition("after all")

    with pytest.raises(IllegalTransition):
        control.run(verb, by=ADA)
    assert trail.entries() == []


def test_many_at_once_are_one_entry_with_their_number(control: Control, trail: AuditQueries, database_url: str) -> None:
    session = open_ledger(database_url, road="embedded").session("test")
    sent = [new_job() for _ in range(30)]
    session.enqueue(sent)
    session.close()
    assert jobs.cancel_waiting(database_url, "letters", by="cli:ada") == 30
    [entry] = trail.entries()
    assert (entry.name, entry.via, entry.operation, entry.count) == ("ada", "cli", "cancel_job", 30)
    named = json.loads(entry.target)["jobs"]
    assert named[:20] == sorted(job.id for job in sent)[:20]
    assert named[20:] == ["… and 10 more"]


def test_what_was_refused_is_in_it(control: Control, trail: AuditQueries) -> None:
    verbs.put_down(control, "remove_job", {"path": "/jobs/1"}, result="refused", why="needs admin", by=ADA)
    [entry] = trail.entries(result="refused")
    assert (entry.operation, entry.count, json.loads(entry.change)) == ("remove_job", 0, [{"why": "needs admin"}])


def test_it_is_asked_by_who_what_and_when(control: Control, trail: AuditQueries) -> None:
    some(control)
    queues.resume(control, "queue-1", by="cli:bob")
    assert [entry.seq for entry in trail.entries(name="ada", limit=2)] == [5, 4]
    assert [entry.seq for entry in trail.entries(name="ada", before=4)] == [3, 2, 1]
    assert [entry.name for entry in trail.entries(operation="resume_queue")] == ["bob"]
    first = trail.entry(1)
    assert first is not None
    assert trail.entries(until=first.at) == []
    assert len(trail.entries(since=first.at)) == 6
    assert trail.entry(99) is None


def test_a_chain_that_nobody_touched_holds(control: Control, trail: AuditQueries) -> None:
    empty = trail.verify()
    assert (empty.bad, empty.entries, empty.head) == (None, 0, 0)
    some(control)
    found = trail.verify((empty.head, empty.hash))
    assert (found.bad, found.entries, found.head) == (None, 5, 5)
    assert [entry.seq for entry in trail.everything()] == [1, 2, 3, 4, 5]


def test_deeds_at_once_stand_one_after_the_other(control: Control, trail: AuditQueries) -> None:
    def work(number: int) -> None:
        for turn in range(5):
            queues.pause(control, f"queue-{number}-{turn}", by=ADA)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = trail.verify()
    assert (found.bad, found.entries) == (None, 20)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit SET name = 'eve' WHERE seq = 3",
        "DELETE FROM audit WHERE seq = 3",
        "DELETE FROM audit WHERE seq = 5",
        "DELETE FROM audit",
        "INSERT OR REPLACE INTO audit SELECT * FROM audit WHERE seq = 3",
        "INSERT INTO audit SELECT * FROM audit WHERE seq = 3 ON CONFLICT (seq) DO UPDATE SET name = 'eve'",
        "TRUNCATE audit",
    ],
)
def test_the_database_refuses_to_change_it(
    control: Control, trail: AuditQueries, tamper: Callable[..., None], statement: str
) -> None:
    some(control)
    with pytest.raises((LedgerError, DBAPIError)):
        tamper(statement, guarded=True)
    assert trail.verify().bad is None
    assert len(trail.entries()) == 5


@pytest.mark.parametrize(
    ("statement", "bad", "why"),
    [
        ("UPDATE audit SET name = 'eve' WHERE seq = 3", 3, "changed"),
        ("UPDATE audit SET count = 7 WHERE seq = 1", 1, "changed"),
        ("UPDATE audit SET hash = (SELECT hash FROM audit WHERE seq = 2) WHERE seq = 5", 5, "changed"),
        ("DELETE FROM audit WHERE seq = 3", 4, "gone"),
        ("DELETE FROM audit WHERE seq < 3", 3, "gone"),
        ("UPDATE audit SET seq = CASE seq WHEN 2 THEN -3 ELSE -2 END WHERE seq IN (2, 3)", 4, "gone"),
    ],
)
def test_who_tampers_with_it_is_found_out(
    control: Control, trail: AuditQueries, tamper: Callable[..., None], statement: str, bad: int, why: str
) -> None:
    some(control)
    tamper(statement)
    if "-3" in statement:
        tamper("UPDATE audit SET seq = -seq WHERE seq < 0")
        bad, why = 2, "changed"
    found = trail.verify()
    assert found.bad == bad
    assert why in found.why


def test_only_a_head_that_was_kept_tells_that_the_end_was_cut_off(
    control: Control, trail: AuditQueries, tamper: Callable[..., None]
) -> None:
    some(control)
    kept = trail.verify()
    tamper("DELETE FROM audit WHERE seq > 3")
    assert trail.verify().bad is None  # the chain itself cannot know
    found = trail.verify((kept.head, kept.hash))
    assert found.bad == 4
    assert "cut off" in found.why
    for number in range(5):  # and somebody goes on with it
        queues.resume(control, f"queue-{number}", by=ADA)
    assert trail.verify().bad is None
    found = trail.verify((kept.head, kept.hash))
    assert found.bad == 5
    assert "another than the one that was kept" in found.why


def test_a_head_that_was_kept_is_not_said_to_hold_when_nothing_is_left_to_compare_it_with(
    control: Control, trail: AuditQueries, tamper: Callable[..., None]
) -> None:
    some(control)
    kept = trail.verify()
    tamper(f"INSERT INTO audit_anchors (seq, hash, at) SELECT {kept.head + 1}, '{'f' * 64}', at FROM audit LIMIT 1")
    tamper("DELETE FROM audit")
    queues.resume(control, "queue-0", by=ADA)
    assert trail.verify().bad is None
    found = trail.verify((kept.head, kept.hash))
    assert found.bad == kept.head
    assert "nothing here tells which" in found.why


def test_the_head_of_an_empty_trail_holds_for_ever(control: Control, trail: AuditQueries) -> None:
    empty = trail.verify()
    some(control)
    assert trail.verify((empty.head, empty.hash)).bad is None
    verbs.truncate(control, datetime.now(UTC) + timedelta(days=1), by=ADA)
    assert trail.verify((empty.head, empty.hash)).bad is None


def test_it_is_cut_off_from_its_beginning_by_a_verb_that_is_in_it(
    control: Control, trail: AuditQueries, tamper: Callable[..., None]
) -> None:
    some(control)
    third = trail.entry(3)
    assert third is not None
    assert verbs.truncate(control, third.at, by=ADA) == 2
    assert [entry.seq for entry in trail.everything()] == [3, 4, 5, 6]
    last = trail.entry(6)
    assert last is not None
    assert (last.operation, last.count) == ("truncate_audit", 2)
    assert json.loads(last.target)["through"] == 2
    found = trail.verify()
    assert (found.bad, found.first, found.entries) == (None, 3, 4)
    with pytest.raises((LedgerError, DBAPIError)):
        tamper("DELETE FROM audit WHERE seq = 3", guarded=True)
    with pytest.raises((LedgerError, DBAPIError)):
        tamper("UPDATE audit_anchors SET seq = 4", guarded=True)


def test_cutting_everything_off_leaves_the_last_entry(control: Control, trail: AuditQueries) -> None:
    some(control)
    later = datetime.now(UTC) + timedelta(days=1)
    assert verbs.truncate(control, later, by=ADA) == 4
    assert verbs.truncate(control, later, by=ADA) == 1
    assert trail.verify().bad is None
    assert [entry.operation for entry in trail.entries()] == ["truncate_audit", "truncate_audit"]

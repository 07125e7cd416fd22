"""The thread that keeps the promises neither hammers the ledger nor forgets the rest over a backlog."""

import queue
import time
from collections.abc import Sequence

import pytest

from broker import build
from broker.build import maintenance as maintenance_of
from errors import LedgerBusy
from ledger import Ledger, open_ledger
from ledger.ledger import Session
from ledger.outbox import AsyncOutbox, Outbox
from ledger.queries import Queries
from ledger.records import Due, Keep
from middleware import maintenance, relay, retention
from middleware.maintenance import AGAIN, Duty, Maintenance
from settings import Settings
from tests.ledger_under_test import new_job
from tests.ledgers import join, run

WAIT_S = 20


class Asked:
    """A ledger that tells when its sessions, the real ones, are asked what is due next."""

    def __init__(self, real: Ledger) -> None:
        self._real = real
        self.url = real.url
        self.times: queue.SimpleQueue[float] = queue.SimpleQueue()

    def check(self) -> None:
        self._real.check()

    def outbox(self, connection: object) -> Outbox | AsyncOutbox:
        return self._real.outbox(connection)

    def session(self, name: str) -> Session:
        session = self._real.session(name)
        next_due_s = session.next_due_s

        def asked() -> float | None:
            self.times.put(time.monotonic())
            return next_due_s()

        session.next_due_s = asked  # type: ignore[method-assign]
        return session


@pytest.fixture
def ledger(sqlite_url: str) -> Ledger:
    return open_ledger(sqlite_url, road="rabbitmq", publish_after_s=0)


def with_due_jobs(ledger: Ledger, count: int) -> Session:
    session = ledger.session("test")
    session.enqueue([new_job() for _ in range(count)])
    return session


def test_while_rabbitmq_is_away_what_is_due_is_looked_at_a_few_times_a_second(ledger: Ledger) -> None:
    with_due_jobs(ledger, 1).close()
    asked = Asked(ledger)
    away = relay.Relay(lambda due: None, resend_after_s=60, room=lambda: False)
    loop = Maintenance(asked, [Duty("relay", 0.0, away.run)])
    loop.start()
    times = [asked.times.get(timeout=WAIT_S) for _ in range(12)]
    loop.stop()
    assert times[11] - times[10] > 0.1


def test_what_the_holder_of_the_lease_leaves_undone_another_does_and_nothing_else(ledger: Ledger) -> None:
    hung = with_due_jobs(ledger, 3)
    assert hung.lease("maintenance", "hung", 60) is not None
    sent: queue.SimpleQueue[str] = queue.SimpleQueue()

    def send(due: Sequence[Due]) -> None:
        for row in due:
            sent.put(row.id)

    relaying = relay.Relay(send, resend_after_s=60, room=lambda: True)
    rescued: list[Session] = []
    loop = Maintenance(ledger, [Duty("relay", 0.0, relaying.run), Duty("rescuer", 0.01, rescued.append)])
    loop.start()
    try:
        assert len({sent.get(timeout=WAIT_S) for _ in range(3)}) == 3
    finally:
        loop.stop()
    assert rescued == []
    hung.close()


def test_a_duty_that_fails_keeps_no_other_waiting_and_is_seen_to_be_late(
    ledger: Ledger, sqlite_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(maintenance, "REPORT_S", 0.1)
    monkeypatch.setattr(maintenance, "FAILED_S", 0.1)
    done: queue.SimpleQueue[Session] = queue.SimpleQueue()

    def fails(session: Session) -> None:
        raise KeyError("options")

    loop = Maintenance(ledger, [Duty("fails", 0.01, fails), Duty("works", 0.01, done.put)])
    loop.start()
    queries = Queries(sqlite_url)
    try:
        for _ in range(3):
            done.get(timeout=WAIT_S)
        deadline = time.monotonic() + WAIT_S
        while not any(duty.name == "fails" and duty.ago_s > 0.5 for duty in queries.duties()):
            assert time.monotonic() < deadline, queries.duties()
            time.sleep(0.02)
    finally:
        loop.stop()
        queries.close()
    assert "the duty fails failed" in caplog.text


def test_a_duty_that_somebody_keeps_from_the_ledger_keeps_no_other_waiting(ledger: Ledger) -> None:
    done: queue.SimpleQueue[Session] = queue.SimpleQueue()

    def locked(session: Session) -> None:
        raise LedgerBusy("canceling statement due to lock timeout")

    loop = Maintenance(ledger, [Duty("locked", 0.01, locked), Duty("works", 0.01, done.put)])
    loop.start()
    try:
        for _ in range(3):
            done.get(timeout=WAIT_S)
    finally:
        loop.stop()


def test_a_duty_that_has_more_to_do_is_done_again_at_once_and_in_between_the_others_are(ledger: Ledger) -> None:
    done: queue.SimpleQueue[str] = queue.SimpleQueue()
    answers = iter([AGAIN, AGAIN])

    def much(session: Session) -> object:
        done.put("much")
        return next(answers, None)

    loop = Maintenance(ledger, [Duty("much", 3600, much), Duty("other", 0.001, lambda session: done.put("other"))])
    loop.start()
    seen: list[str] = []
    try:
        while seen.count("much") < 3:
            seen.append(done.get(timeout=WAIT_S))
    finally:
        loop.stop()
    assert "much much" not in " ".join(seen)


def test_what_may_take_long_is_done_beside_the_rescuer_and_he_comes_right_after_the_relay(sqlite_url: str) -> None:
    settings = Settings(database_url=sqlite_url)
    loop = maintenance_of(build(settings), settings)
    assert [duty.name for duty in loop.duties[:2]] == ["relay", "rescuer"]
    assert loop.beside is not None
    slow = {"retention", "lost steps", "orphan sweep"}
    assert slow <= {duty.name for duty in loop.beside.duties}
    assert not slow & {duty.name for duty in loop.duties}


def test_retention_goes_on_until_nothing_is_left_to_do(
    ledger: Ledger, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "ROWS", 2)
    monkeypatch.setattr(retention, "TURN_S", 0.0)
    session = ledger.session("test")
    worker = join(session)
    for _ in range(5):
        run(session, worker, new_job(queue="letters"))
    session.retain({}, Keep(0, 0, 0, 0), history_s=3600, limit=2)
    keep = retention.Retention({}, Keep(0, 0, 0, 0), history_s=0)
    assert [keep.run(session) for _ in range(3)] == [AGAIN, None, None]
    queries = Queries(sqlite_url)
    assert queries.jobs() == []
    queries.close()
    session.close()


def test_a_backlog_is_sent_a_second_at_a_time(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "BATCH", 10)
    monkeypatch.setattr(relay, "PASS_S", 0.0)
    session = with_due_jobs(ledger, 25)
    sent: list[str] = []
    busy = relay.Relay(lambda due: sent.extend(row.id for row in due), resend_after_s=60, room=lambda: True)
    assert [busy.run(session) for _ in range(4)] == [10, 10, 5, 0]
    assert len(set(sent)) == 25
    session.close()


def test_nobody_is_judged_for_a_lease_after_this_machines_clock_was_set(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = Maintenance(ledger, [])
    loop._since -= 100
    loop._touch()
    assert loop.continuous_s() > 99
    right = time.time
    monkeypatch.setattr(time, "time", lambda: right() + 60)
    loop._touch()
    assert loop.continuous_s() < 99


def test_who_does_the_duties_tells_how_late_they_are(
    ledger: Ledger, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "REPORT_S", 0.3)
    slow = Duty("slow", 0.2, lambda session: time.sleep(0.4))
    loop = Maintenance(ledger, [Duty("often", 0.05, lambda session: None), slow])
    loop.start()
    queries = Queries(sqlite_url)
    deadline = time.monotonic() + WAIT_S
    while len(found := queries.duties()) < 2 or found[0].late_s < 0.2:
        assert time.monotonic() < deadline, found
        time.sleep(0.02)
    [often, other] = found
    assert (often.name, often.holder, often.every_s) == ("often", loop.holder, 0.05)
    assert 0.2 < often.late_s < 10  # the other one kept it waiting
    assert 0.4 <= other.took_s < 10
    assert queries.leader("maintenance") == loop.holder
    loop.stop()
    assert queries.leader("maintenance") is None
    queries.close()

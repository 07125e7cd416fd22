"""Queues are drained, cleaned, retried, changed and counted; on both databases."""

from collections.abc import Iterator
from datetime import timedelta

import dramatiq
import pytest

from broker import Broker, build, knobs
from broker.making import job_of
from control import Control
from control.health import Rules, check
from control.queues import change, clean, drain, pause, restore, resume, retry_failed
from errors import BadInput, QueueDraining, QueueFull
from ledger import tally
from ledger.alerts import Level
from ledger.engine import Database
from ledger.orders import Knob
from ledger.queue_stats import QueueStats
from ledger.records import Finish
from ledger.schedule_queries import ScheduleQueries
from ledger.states import Outcome, Reason, State
from settings import QueueSettings, Settings

pytestmark = pytest.mark.one_database


@pytest.fixture
def broker(database_url: str) -> Iterator[Broker]:
    found = build(Settings(database_url=database_url, queues={"mail": QueueSettings(concurrency=2, rate="100/m")}))

    @dramatiq.actor(broker=found, queue_name="mail")
    def write(text: str) -> None: ...

    yield found
    found.close()


@pytest.fixture
def control(database_url: str) -> Iterator[Control]:
    found = Control(database_url, "embedded")
    yield found
    found.close()


def send(broker: Broker, *, delay: int | None = None) -> None:
    broker.get_actor("write").send_with_options(args=("x",), delay=delay)


def stats(broker: Broker, name: str = "mail") -> QueueStats:
    [found] = broker.queries.queue_stats(only=[name])
    return found


def ended(broker: Broker, count: int, outcome: Outcome) -> None:
    """Jobs that ended so, run as a worker would."""
    session = broker.ledger.session("test")
    worker = session.join(host="here", pid=1, queues=["mail"], threads=1, version="0")
    reason = Reason.RETRIES_EXHAUSTED if outcome is Outcome.FAILED else None
    new = [job_of(broker, broker.get_actor("write").message("x")) for _ in range(count)]
    session.enqueue(new)
    claims = session.take(worker, {"mail": count})
    assert len(claims) == count
    session.finish(worker, [Finish(claim.id, claim.epoch, outcome, reason) for claim in claims])
    session.leave(worker)
    session.close()


def later(broker: Broker) -> None:
    """The next send asks what operators have changed."""
    broker.room._learnt_at = -10.0


def test_a_draining_queue_takes_no_new_jobs_and_runs_what_is_there(broker: Broker, control: Control) -> None:
    send(broker)
    drain(control, "mail", by="ann")
    drain(control, "mail", by="bob")
    later(broker)
    with pytest.raises(QueueDraining, match="being drained"):
        send(broker)
    with pytest.raises(QueueDraining):
        send(broker, delay=60_000)
    assert (stats(broker).waiting, stats(broker).draining_by) == (1, "ann")
    session = broker.ledger.session("test")
    worker = session.join(host="here", pid=1, queues=["mail"], threads=1, version="0")
    assert len(session.take(worker, {"mail": 5})) == 1
    session.close()
    resume(control, "mail", by="ann")
    later(broker)
    send(broker)
    assert (stats(broker).waiting, stats(broker).active, stats(broker).draining_at) == (1, 1, None)


def test_jobs_are_cleaned_away_by_state_and_age(broker: Broker, control: Control) -> None:
    ended(broker, 5, Outcome.COMPLETED)
    ended(broker, 3, Outcome.FAILED)
    assert clean(control, "mail", State.COMPLETED, older_than_s=3600, by="ann") == 0
    assert clean(control, "mail", State.COMPLETED, limit=2, by="ann") == 2
    assert (stats(broker).completed, stats(broker).failed) == (3, 3)
    assert clean(control, "mail", State.COMPLETED, by="ann") == 3
    assert clean(control, "mail", State.FAILED, by="ann") == 3
    assert stats(broker).total == 0
    with pytest.raises(BadInput, match="only finished"):
        clean(control, "mail", State.WAITING, by="ann")


def test_what_has_moved_to_the_history_is_counted_and_cleaned_too(broker: Broker, control: Control) -> None:
    from ledger.records import Keep

    ended(broker, 4, Outcome.COMPLETED)
    session = broker.ledger.session("test")
    session.retain({}, Keep(completed=1), history_s=1e6)
    session.close()
    assert [row.archived for row in broker.queries.jobs(queue="mail")].count(True) == 3
    assert stats(broker).completed == 4
    assert [queue.counts for queue in broker.queries.queues()] == [{State.COMPLETED: 4}]
    assert clean(control, "mail", State.COMPLETED, by="ann") == 4


def test_a_count_that_ends_at_a_bound_does_not_hide_what_is_at_hand(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ledger.queue_stats._COMPLETED", 2)
    ended(broker, 4, Outcome.COMPLETED)
    ended(broker, 1, Outcome.FAILED)
    assert (stats(broker).completed, stats(broker).failed, stats(broker).more) == (2, 1, [State.COMPLETED])
    assert [queue.counts for queue in broker.queries.queues()] == [{State.COMPLETED: 4, State.FAILED: 1}]


def test_the_dead_letters_of_a_queue_go_round_again(broker: Broker, control: Control) -> None:
    ended(broker, 3, Outcome.FAILED)
    assert retry_failed(control, "mail", limit=2, by="ann") == 2
    assert (stats(broker).waiting, stats(broker).failed) == (2, 1)


def test_a_knob_is_changed_shown_and_restored(broker: Broker, control: Control) -> None:
    change(control, "mail", {Knob.CONCURRENCY: 7, Knob.RATE: "5/h", Knob.MAX_WAITING: 1}, by="ann")
    views = {view.knob: view for view in knobs.of_queue(broker, broker.queries, "mail")}
    assert {knob: (view.code, view.now, view.changed_by) for knob, view in views.items()} == {
        Knob.CONCURRENCY: (2, 7, "ann"),
        Knob.RATE: ("100/m", "5/h", "ann"),
        Knob.MAX_RUNNING: (None, None, None),
        Knob.MAX_WAITING: (None, 1, "ann"),
    }
    later(broker)
    send(broker)
    later(broker)
    broker.room._looks.clear()
    with pytest.raises(QueueFull):
        send(broker)
    assert restore(control, "mail", Knob.MAX_WAITING, by="ann") == [Knob.MAX_WAITING]
    later(broker)
    send(broker)
    assert restore(control, "mail", by="ann") == [Knob.CONCURRENCY, Knob.RATE]
    assert restore(control, "mail", by="ann") == []


@pytest.mark.parametrize(
    ("knob", "value"),
    [
        (Knob.CONCURRENCY, 0),
        (Knob.RATE, "fast"),
        (Knob.MAX_RUNNING, "-1"),
        (Knob.MAX_WAITING, 2**30),
        (Knob.RATE, "0/s"),
    ],
)
def test_what_a_knob_cannot_be_is_refused_and_nothing_is_changed(
    broker: Broker, control: Control, knob: Knob, value: int | str
) -> None:
    with pytest.raises(BadInput, match=str(knob)):
        change(control, "mail", {Knob.CONCURRENCY: 3, knob: value}, by="ann")
    assert broker.queries.changed_rules() == []


def test_a_queue_is_counted_by_state_with_the_age_of_its_oldest(broker: Broker, control: Control) -> None:
    for _ in range(3):
        send(broker)
    send(broker, delay=3_600_000)
    pause(control, "other", by="ann")
    found = {x.name: x for x in broker.queries.queue_stats(["declared"])}
    assert sorted(found) == ["declared", "mail", "other"]
    mail = found["mail"]
    assert (mail.waiting, mail.delayed, mail.active, mail.total, mail.more) == (3, 1, 0, 4, [])
    assert 0 <= (mail.oldest_waiting_s or -1) < 30
    assert found["other"].paused
    assert found["declared"].total == 0


@pytest.mark.parametrize(("most", "waiting", "more"), [(3, 3, [State.WAITING, State.DELAYED]), (10, 6, [])])
def test_a_backlog_too_long_to_walk_is_counted_queue_by_queue_and_says_so(
    broker: Broker, monkeypatch: pytest.MonkeyPatch, most: int, waiting: int, more: list[State]
) -> None:
    monkeypatch.setattr("ledger.backlog.WALK", 2)
    monkeypatch.setattr("ledger.queue_stats.MOST", most)
    for _ in range(6):
        send(broker)
    [found] = broker.queries.queue_stats(only=["mail"])
    assert (found.waiting, found.more) == (waiting, more)
    assert 0 <= (found.oldest_waiting_s or -1) < 30


def test_health_counts_as_far_as_its_thresholds_in_queues_that_the_walk_did_not_reach(
    broker: Broker, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    @dramatiq.actor(broker=broker, queue_name="other")
    def before() -> None: ...

    broker.enqueue_many([before.message() for _ in range(8)])
    for _ in range(6):
        send(broker, delay=60_000)
    for _ in range(5):
        send(broker)
    monkeypatch.setattr("ledger.backlog.WALK", 12)
    monkeypatch.setattr("ledger.queue_stats.MOST", 3)
    off = "waiting=off, delayed=off, unserved=off"
    schedules = ScheduleQueries(database_url)

    def told(health: str) -> list[tuple[str, str]]:
        rules = Rules.of(Settings(health=off, queues={"mail": QueueSettings(health=health)}))
        found = check(broker.queries, schedules, rules).findings
        return [(x.level, x.text) for x in found if x.queue == "mail" and x.rule in ("waiting", "delayed")]

    assert told("waiting=2/4") == [(Level.CRITICAL, "at least 5 jobs wait")]
    assert told("waiting=2/4, delayed=2/5") == [
        (Level.CRITICAL, "at least 6 jobs are delayed"),
        (Level.CRITICAL, "at least 5 jobs wait"),
    ]
    schedules.close()


def test_what_a_queue_did_in_a_day_comes_from_the_minutes(broker: Broker, database_url: str) -> None:
    ended(broker, 4, Outcome.COMPLETED)
    ended(broker, 1, Outcome.FAILED)
    database = Database(database_url)
    with database.write() as connection:
        now = database.time(connection)
        span = tally.floor(now - timedelta(minutes=5), 60), now + timedelta(minutes=1)
        tally.roll_up(connection, *span)
        tally.roll_up_again(connection, *span)
    database.close()
    mail = stats(broker)
    assert (mail.completed_24h, mail.failed_24h) == (4, 1)
    assert mail.per_s == pytest.approx(5 / 900)
    assert (mail.mean_run_s, mail.mean_wait_s) != (None, None)
    assert mail.drain_s == 0.0
    send(broker)
    assert stats(broker).drain_s == pytest.approx(180.0)


def test_a_limit_that_only_an_operator_has_set_holds_and_lets_all_in_when_it_is_lifted(
    broker: Broker, control: Control, database_url: str
) -> None:
    from tests.integration.test_quiet_workers import gated, until, working

    free = build(Settings(database_url=database_url))
    act, gate = gated(free)
    with working(free):
        change(control, "work", {Knob.MAX_RUNNING: 1}, by="ann")
        until(lambda: free.middleware and _limited(free))
        free.enqueue_many([act.message() for _ in range(4)])
        until(lambda: gate.running == 1)
        until(lambda: free.queries.counts()["work"].get(State.DELAYED) == 3)
        restore(control, "work", by="ann")
        until(lambda: gate.running == 4)
        gate.set()
        until(lambda: gate.done == 4)
    free.close()


def _limited(broker: Broker) -> bool:
    from middleware.concurrency import ConcurrencyLimits

    return bool(next(x for x in broker.middleware if isinstance(x, ConcurrencyLimits))._added)

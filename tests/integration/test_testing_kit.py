"""What a test with the fixture ``hareline`` can say; how pytest comes by it is in test_pytest_plugin.py."""

import asyncio
import base64
import logging
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from unittest.mock import ANY
from zoneinfo import ZoneInfo

import dramatiq
import pytest
from dramatiq import Actor, group

from broker import Broker, build
from control import Control
from control.queues import pause
from errors import BadSchedule, Discard, RateLimited, Retry, Snooze
from hareline_testing import Hareline
from ledger.schedules import Schedule
from ledger.states import Reason, State
from middleware.current import current_job
from middleware.rates import Rate
from middleware.secret import Secret
from middleware.unique import Duplicate, Unique
from settings import Settings


@pytest.fixture
def broker(sqlite_url: str) -> Broker:
    found = build(Settings(database_url=sqlite_url, sqlite_synchronous="NORMAL"))
    dramatiq.set_broker(found)
    return found


@pytest.fixture
def hareline(broker: Broker) -> Iterator[Hareline]:
    with Hareline.opened(broker, []) as found:
        yield found


def actor(broker: Broker, **options: Any) -> Callable[[Callable[..., Any]], Actor[Any, Any]]:
    return dramatiq.actor(broker=broker, queue_name=options.pop("queue_name", "work"), **options)


def test_draining_runs_what_is_due_in_this_thread_in_order_and_what_that_sends(
    broker: Broker, hareline: Hareline
) -> None:
    ran: list[Any] = []

    @actor(broker, priority=4)
    def child(n: int) -> None:
        ran.append(n)

    @actor(broker)
    def parent() -> None:
        ran.append(threading.current_thread())
        child.send(1)
        child.send(2)
        child.send_with_options(args=(0,), priority=1)
        child.send_with_options(args=(3,), delay=1)

    parent.send()
    assert hareline.drain() == 4
    assert ran == [threading.current_thread(), 0, 1, 2]
    assert hareline.drain() == 0


def test_one_queue_can_be_drained_alone_and_a_paused_one_is_not(broker: Broker, hareline: Hareline) -> None:
    ran: list[str] = []
    one = actor(broker, actor_name="one")(lambda: ran.append("one"))
    other = actor(broker, actor_name="other", queue_name="other")(lambda: ran.append("other"))
    one.send()
    other.send()
    hareline.drain("other")
    assert ran == ["other"]
    control = Control(broker.ledger.url, "embedded")
    pause(control, "work", by="a test")
    control.close()
    assert hareline.drain() == 0
    with pytest.raises(ValueError, match="no actor is on a queue 'wrok'; the queues are other, work"):
        hareline.drain("wrok")


def test_what_an_actor_raises_is_raised_once_it_is_recorded(broker: Broker, hareline: Hareline) -> None:
    @actor(broker, max_retries=1, min_backoff=1_000)
    def fail(n: int) -> None:
        raise KeyError(n)

    message = fail.send(7)
    with pytest.raises(KeyError, match="7") as raised:
        hareline.drain()
    assert any(entry.name == "fail" for entry in raised.traceback)
    assert hareline.job(message).state is State.DELAYED
    hareline.advance(seconds=1)
    assert hareline.drain(raises=False) == 1
    assert hareline.job(message).reason is Reason.RETRIES_EXHAUSTED


def test_what_an_actor_raises_on_purpose_is_not_raised(broker: Broker, hareline: Hareline) -> None:
    @actor(broker)
    def say(word: str) -> None:
        if current_job().attempt == 1 and len(hareline.job(current_job().id).attempts) == 0:
            raise {
                "retry": Retry("later", delay=1_000),
                "snooze": Snooze(1_000),
                "limited": RateLimited(1_000),
                "discard": Discard("never"),
            }[word]

    for word in ("retry", "snooze", "limited", "discard"):
        say.send(word)
    assert hareline.drain() == 4
    hareline.advance(seconds=1)
    assert hareline.drain() == 3
    assert [job.state for job in hareline.jobs()] == [*[State.COMPLETED] * 3, State.FAILED]


def test_async_actors_results_pipelines_groups_and_progress_are_as_with_a_worker(
    broker: Broker, hareline: Hareline
) -> None:
    done: list[int] = []

    @actor(broker, store_results=True)
    async def double(x: int) -> int:
        await asyncio.sleep(0)
        current_job().progress(1, 1)
        return 2 * x

    @actor(broker, actor_name="finish")
    def finish() -> None:
        done.append(1)

    piped = (double.message(1) | double.message()).run()
    together = group([double.message(n) for n in range(3)])
    together.add_completion_callback(finish.message())
    together.run()
    hareline.drain()
    assert piped.get_result() == 4
    assert sorted(together.get_results()) == [0, 2, 4]
    assert done == [1]
    assert hareline.jobs()[0].progress is not None


def test_time_stands_still_until_it_is_moved_and_never_goes_back(broker: Broker, hareline: Hareline) -> None:
    ran: list[int] = []

    @actor(broker, expires=10_000)
    def act(n: int) -> None:
        ran.append(n)

    began = hareline.now
    late = act.send(0)
    tomorrow = began + timedelta(days=1)
    act.send_with_options(args=(1,), delay=86_400_000)
    hareline.advance(hours=23, minutes=59)
    hareline.drain()
    assert hareline.job(late).reason is Reason.EXPIRED
    hareline.travel_to(tomorrow + timedelta(seconds=1))
    hareline.drain()
    assert ran == [1]
    assert hareline.job(late).finished_at == pytest.approx(tomorrow - timedelta(minutes=1), abs=timedelta(seconds=1))
    with pytest.raises(ValueError, match="does not go back"):
        hareline.travel_to(began)
    with pytest.raises(ValueError, match="has no time zone"):
        hareline.travel_to(datetime(2100, 1, 1))


def test_rates_and_keys_go_by_the_same_clock(broker: Broker, hareline: Hareline) -> None:
    @actor(broker, rate_limit=Rate(1, per=3_600))
    def rare() -> None: ...

    @actor(broker, unique=Unique(within=60, mode="throttle"))
    def once() -> None: ...

    for _ in range(3):
        rare.send()
    for hours in range(3):
        hareline.drain()
        assert [job.state for job in hareline.jobs()].count(State.COMPLETED) == hours + 1
        hareline.advance(hours=1)
    assert not isinstance(once.send(), Duplicate)
    hareline.advance(seconds=59)
    assert isinstance(once.send(), Duplicate)
    hareline.advance(seconds=1)
    assert not isinstance(once.send(), Duplicate)


def test_waiting_for_a_job_goes_from_one_due_time_to_the_next(broker: Broker, hareline: Hareline) -> None:
    @actor(broker, max_retries=9, min_backoff=60_000, backoff="fixed")
    def stubborn(attempts: int) -> None:
        if current_job().attempt < attempts:
            raise RuntimeError("not yet")

    began, message = hareline.now, stubborn.send(4)
    with pytest.raises(RuntimeError):
        hareline.wait_for(message, 600)
    job = hareline.wait_for(message, 600, raises=False)
    assert (job.state, job.attempts_spent) == (State.COMPLETED, 4)
    assert hareline.now - began == pytest.approx(timedelta(minutes=3), abs=timedelta(seconds=1))
    assert hareline.wait_for(job.id) == hareline.wait_for(message.message_id)

    later = stubborn.send_with_options(args=(1,), delay=61_000)
    with pytest.raises(AssertionError, match=r"is delayed, and does not end within 60 s:\n  .* enqueued"):
        hareline.wait_for(later, timeout=60)
    with pytest.raises(AssertionError, match="no job has the id, or the message, nobody; there is\n  stubborn"):
        hareline.wait_for("nobody")


def test_schedules_send_their_ticks_while_the_clock_is_moved(broker: Broker) -> None:
    @actor(broker)
    def report(word: str) -> None: ...

    schedules = [
        Schedule("hourly", actor="report", when="every 1h", args=("hourly",)),
        Schedule("daily", actor="report", when="0 9 * * *", tz="Europe/Vienna", kwargs={"word": "daily"}),
    ]
    with Hareline.opened(broker, schedules) as hareline:
        hareline.assert_not_enqueued(report)
        hareline.travel_to(hareline.now + timedelta(days=1))
        assert len(hareline.assert_enqueued(report, "hourly", count=24)) == 24
        [daily] = hareline.assert_enqueued(report, "daily")
        assert f"{daily.created_at.astimezone(ZoneInfo('Europe/Vienna')):%H:%M}" == "09:00", "as of when it was due"
        hareline.drain()
        hareline.wait_for(report.send_with_options(args=("late",), delay=3_600_000), timeout=3_601)
        hareline.assert_enqueued(report, word="hourly", count=25)
    with (
        pytest.raises(BadSchedule, match="no actor is named 'repotr'; the nearest is report"),
        Hareline.opened(broker, [Schedule("wrong", actor="repotr", when="every 1h")]),
    ):
        raise AssertionError("not reached")


def test_what_was_enqueued_is_told_by_its_arguments(broker: Broker, hareline: Hareline) -> None:
    @actor(broker)
    def charge(user: str, amount: Decimal, *notes: str, currency: str = "EUR", **more: int) -> None: ...

    @actor(broker, queue_name="other")
    def other(x): ...  # type: ignore[no-untyped-def]

    charge.send("ada", Decimal("1.10"), "first", "second", extra=1)
    charge.send_with_options(kwargs={"user": "bob", "amount": "2"}, delay=1_000)
    other.send({"a": [1, 2]})
    hareline.drain()
    [found] = hareline.assert_enqueued(charge, "ada", Decimal("1.10"))
    assert found.state is State.COMPLETED
    hareline.assert_enqueued(charge, amount=Decimal(2), user=ANY, currency="EUR", count=1)
    hareline.assert_enqueued(charge, extra=1)
    hareline.assert_enqueued(charge, "ada", ANY, "first", "second")
    hareline.assert_enqueued(charge, count=2)
    hareline.assert_enqueued(other, {"a": (1, 2)})
    hareline.assert_not_enqueued(charge, "eve")
    with pytest.raises(AssertionError) as wrong:
        hareline.assert_enqueued(charge, "ada", currency="USD")
    assert str(wrong.value).splitlines() == [
        "expected at least one job charge(user='ada', currency='USD'), found 0; enqueued were",
        "  charge('ada', '1.10', 'first', 'second', extra=1) on work, completed",
        "  charge(user='bob', amount='2') on work, delayed",
        "  other({'a': [1, 2]}) on other, completed",
    ]
    with pytest.raises(AssertionError, match=r"expected 0 jobs charge\(user='ada'\), found 1"):
        hareline.assert_not_enqueued(charge, "ada")
    with pytest.raises(TypeError, match=r"actor 'other': .* 'y'; name parameters of it"):
        hareline.assert_enqueued(other, y=1)


def test_secret_arguments_are_matched_in_clear_and_not_shown(sqlite_url: str) -> None:
    keys = f"test:{base64.b64encode(bytes(32)).decode()}"
    broker = build(Settings.model_validate({"database_url": sqlite_url, "keys": keys}))

    @actor(broker)
    def pay(user: str, card: Secret[str]) -> None: ...

    with Hareline.opened(broker, []) as hareline:
        pay.send("ada", "4111")
        hareline.assert_enqueued(pay, "ada", "4111")
        with pytest.raises(AssertionError) as wrong:
            hareline.assert_enqueued(pay, "bob")
        assert "4111" not in str(wrong.value)


def test_an_actor_that_never_comes_to_an_end_is_found_out(
    broker: Broker, hareline: Hareline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hareline_testing.hareline.MOST", 20)

    @actor(broker)
    def again() -> None:
        again.send()

    again.send()
    with pytest.raises(AssertionError, match="made 20 attempts and more are due: does an actor send itself"):
        hareline.drain()


def test_every_test_begins_with_an_empty_ledger_and_leaves_no_thread(broker: Broker) -> None:
    threads = threading.active_count()

    @actor(broker)
    def act() -> None: ...

    for _ in range(2):
        with Hareline.opened(broker, []) as hareline:
            assert hareline.jobs() == []
            act.send()
            act.send_with_options(delay=1_000)
            hareline.drain()
            assert len(hareline.jobs()) == 2
        assert threading.active_count() == threads
    assert abs(datetime.now(UTC) - broker.queries.database_time()) < timedelta(minutes=1), "its clock goes again"
    broker.close()


def test_a_job_that_cannot_be_run_is_recorded_and_the_next_one_is_run(
    broker: Broker, hareline: Hareline, caplog: pytest.LogCaptureFixture
) -> None:
    ran: list[int] = []

    @actor(broker)
    def act(n: int) -> None:
        ran.append(n)

    gone = actor(broker, actor_name="gone")(lambda: None)
    gone.send()
    del broker.actors["gone"]
    act.send(1)
    with caplog.at_level(logging.CRITICAL):
        hareline.drain()
    assert ran == [1]
    assert hareline.jobs()[0].state is State.DELAYED, "another process may know it"

"""Cancelling: at once what does not run, and by asking what does."""

import asyncio
import time

import pytest

from control.jobs import cancel
from control.queues import pause, resume
from errors import IllegalTransition
from ledger.states import Outcome, State
from middleware.current import current_job
from tests.conformance.system import System


def test_a_job_that_was_cancelled_before_it_started_never_starts(system: System) -> None:
    @system.actor()
    def act(name: str) -> None:
        system.note(name)

    pause(system.control, "work", by="a test")
    waiting = act.send("waiting")
    delayed = act.send_with_options(args=("delayed",), delay=50)
    system.sent()
    assert cancel(system.control, system.job(waiting).id, by="a test") == "cancelled"
    assert cancel(system.control, system.job(delayed).id, by="a test") == "cancelled"
    resume(system.control, "work", by="a test")
    system.work()
    act.send("last")
    assert system.finished(3) == {"cancelled": 2, "completed": 1}
    assert system.notes == ["last"]
    with pytest.raises(IllegalTransition, match="finished"):
        cancel(system.control, system.job(waiting).id, by="a test")


def test_a_running_job_that_asks_stops_when_it_is_asked_to(system: System) -> None:
    @system.actor(max_retries=5, cancel_grace=float("inf"))
    def ask() -> None:
        system.note("runs")
        while True:
            current_job().check()
            time.sleep(0.005)

    message = ask.send()
    system.work()
    system.noted("runs")
    assert cancel(system.control, system.job(message).id, by="a test") == "requested"
    assert system.finished(1) == {"cancelled": 1}
    assert [x.outcome for x in system.job(message).attempts] == [Outcome.CANCELLED]
    assert system.job(message).attempts_spent == 0


def test_one_that_does_not_ask_is_interrupted_after_its_grace(system: System) -> None:
    @system.actor(cancel_grace=50)
    def busy() -> None:
        system.note("runs")
        while True:
            time.sleep(0.005)

    @system.actor(cancel_grace=50)
    async def busy_later() -> None:
        system.note("runs, async")
        await asyncio.sleep(3_600)

    one, other = busy.send(), busy_later.send()
    system.work()
    system.noted("runs")
    system.noted("runs, async")
    for message in (one, other):
        cancel(system.control, system.job(message).id, by="a test")
    assert system.finished(2) == {"cancelled": 2}


def test_a_cancelled_job_that_fails_meanwhile_is_not_tried_again(system: System) -> None:
    gate = system.gate()

    @system.actor(max_retries=5, min_backoff=1, cancel_grace=float("inf"))
    def fail() -> None:
        system.note("runs")
        gate.wait(30)
        raise RuntimeError("no luck")

    message = fail.send()
    system.work()
    system.noted("runs")
    cancel(system.control, system.job(message).id, by="a test")
    gate.set()
    assert system.finished(1) == {"cancelled": 1}
    assert system.notes == ["runs"]


def test_all_that_waits_in_a_queue_is_cancelled_by_a_flush(system: System) -> None:
    @system.actor()
    def act() -> None:
        system.note("ran")

    sent = [act.send() for _ in range(3)] + [act.send_with_options(delay=3_600_000)]
    system.sent()
    system.broker.flush("work")
    system.work()
    assert {system.state(message) for message in sent} == {State.CANCELLED}
    assert system.notes == []

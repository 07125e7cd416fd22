"""Jobs that nobody came to in time, and queues that are full."""

from collections.abc import Callable

import pytest
from dramatiq.message import Message

from control.jobs import retry
from control.queues import pause, resume
from errors import QueueFull
from ledger.states import Reason
from settings import QueueSettings
from tests.conformance.system import System


def test_a_job_nobody_came_to_in_time_is_a_dead_letter_that_may_be_retried(system: System) -> None:
    @system.actor(expires=2_000)
    def remind(name: str) -> None:
        system.note(name)

    pause(system.control, "work", by="a test")
    late = remind.send("late")
    patient = remind.send_with_options(args=("patient",), expires=None)
    system.work()
    system.until(lambda: system.states() == {"failed": 1, "waiting": 1})
    assert system.job(late).reason is Reason.EXPIRED
    assert not system.job(late).attempts
    resume(system.control, "work", by="a test")
    assert system.finished(2) == {"completed": 1, "failed": 1}
    retry(system.control, system.job(late).id, by="a test")
    assert system.finished(2) == {"completed": 2}
    assert system.notes == ["patient", "late"]
    assert system.job(patient).attempts_spent == 1


def test_the_time_of_a_delayed_job_counts_from_when_it_is_due(system: System) -> None:
    @system.actor(expires=2_000)
    def remind() -> None:
        system.note("ran")

    remind.send_with_options(delay=2_100)
    system.work()
    assert system.finished(1) == {"completed": 1}


def test_a_send_to_a_full_queue_is_refused_until_there_is_room(system: System) -> None:
    full = system.another(queues={"work": QueueSettings(concurrency=2, max_waiting=3)})

    @full.actor()
    def act() -> None: ...

    for _ in range(3):
        act.send()
    with pytest.raises(QueueFull, match="max_waiting is 3"):
        act.send()
    act.send_with_options(delay=50)  # what is not due yet does not count
    full.work()
    assert system.finished(4) == {"completed": 4}
    system.until(lambda: taken(act.send))
    assert system.finished(5) == {"completed": 5}


def taken(send: Callable[[], Message[None]]) -> bool:
    try:
        send()
    except QueueFull:
        return False
    return True

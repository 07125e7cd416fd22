"""One job of a kind."""

import threading

from dramatiq.message import Message

from control.queues import pause
from middleware.unique import Duplicate, Unique
from tests.conformance.system import System


def test_a_second_send_is_refused_and_is_a_handle_of_the_first_until_that_has_ended(system: System) -> None:
    gate = system.gate()

    @system.actor(unique=Unique(by=["user"]), store_results=True)
    def sync(user: str, why: str = "") -> str:
        system.note(why)
        gate.wait(30)
        return why

    first = sync.send("ada", "first")
    second = sync.send("ada", "second")
    assert isinstance(second, Duplicate)
    assert second.message_id == first.message_id
    assert not isinstance(sync.send("bob", "another"), Duplicate)
    system.work()
    system.noted("first")
    assert isinstance(sync.send("ada", "third"), Duplicate), "it runs"
    gate.set()
    assert second.get_result(block=True, timeout=20_000) == "first"
    assert system.finished(2) == {"completed": 2}
    assert not isinstance(sync.send("ada", "fourth"), Duplicate)
    assert system.finished(3) == {"completed": 3}


def test_a_key_may_be_held_only_until_its_job_starts(system: System) -> None:
    gate = system.gate()

    @system.actor(unique=Unique(states=["waiting", "delayed"]))
    def reindex() -> None:
        system.note("runs")
        gate.wait(30)

    reindex.send()
    system.work()
    system.noted("runs")
    assert not isinstance(reindex.send(), Duplicate)
    gate.set()
    assert system.finished(2) == {"completed": 2}


def test_of_sends_that_replace_each_other_the_last_is_run(system: System) -> None:
    @system.actor(unique=Unique(by=["user"], mode="replace"))
    def save(user: str, text: str) -> None:
        system.note(text)

    for text in "abc":
        save.send_with_options(args=("ada", text), delay=200)
    system.work()
    assert system.finished(1) == {"completed": 1}
    assert system.notes == ["c"]


def test_a_waiting_job_is_replaced_too_and_its_old_message_runs_nothing(system: System) -> None:
    @system.actor(unique=Unique(by=["user"], mode="replace"))
    def save(user: str, text: str) -> None:
        system.note(text)

    for text in "abc":
        save.send("ada", text)
        system.sent()
    system.work()
    assert system.finished(1) == {"completed": 1}
    assert system.notes == ["c"]


def test_a_throttle_goes_by_time_alone(system: System) -> None:
    @system.actor(unique=Unique(within=3_600, mode="throttle"))
    def alert() -> None: ...

    @system.actor(queue_name="narrow", unique=Unique(within=0.2, mode="throttle"))
    def remind() -> None: ...

    pause(system.control, "narrow", by="a test")
    alert.send()
    remind.send()
    system.work()
    system.until(lambda: system.states() == {"completed": 1, "waiting": 1})
    assert isinstance(alert.send(), Duplicate), "it has ended, and its time has not"
    system.until(lambda: not isinstance(remind.send(), Duplicate))
    assert system.states() == {"completed": 1, "waiting": 2}, "its time has ended, and it has not"


def test_a_batch_goes_by_its_keys(system: System) -> None:
    @system.actor(unique=Unique(by=["n"]))
    def once(n: int) -> None:
        system.note(n)

    handles = system.broker.enqueue_many([once.message(n) for n in (1, 2, 1, 3, 2)])
    assert [isinstance(x, Duplicate) for x in handles] == [False, False, True, False, True]
    system.work()
    assert system.finished(3) == {"completed": 3}
    assert sorted(system.notes) == [1, 2, 3]


def test_of_producers_at_once_one_records_a_job(system: System) -> None:
    processes = [system, system.another()]
    actors = []
    for process in processes:

        @process.actor(unique=Unique())
        def only() -> None:
            system.note("ran")

        actors.append(only)
    gate = threading.Barrier(8)
    handles: list[Message[None]] = []

    def send(n: int) -> None:
        gate.wait(30)
        handles.append(actors[n % 2].send())

    threads = [threading.Thread(target=send, args=[n]) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert [isinstance(x, Duplicate) for x in handles].count(False) == 1
    assert len({x.message_id for x in handles}) == 1
    system.work()
    assert system.finished(1) == {"completed": 1}

"""The critical goes first: across a backlog, through retries and delays, whatever carries it."""

from middleware.current import current_job
from tests.conformance.system import System

BACKLOG = 60


def test_a_critical_job_and_its_retry_pass_a_backlog(system: System) -> None:
    first, second = system.gate(), system.gate()

    @system.actor(queue_name="narrow")
    def wait(which: int) -> None:
        system.note(f"wait {which}")
        (first, second)[which].wait(30)
        system.note(f"waited {which}")

    @system.actor(queue_name="narrow", priority=5)
    def background() -> None:
        system.note("background")

    @system.actor(queue_name="narrow", priority=1, max_retries=1, min_backoff=10)
    def critical() -> None:
        system.note("critical")
        if current_job().attempt == 1:
            raise RuntimeError("once more")

    wait.send(0)
    system.work()
    system.noted("wait 0")
    system.broker.enqueue_many([background.message() for _ in range(BACKLOG)])
    system.sent()
    urgent = critical.send()
    wait.send_with_options(args=(1,), priority=1)
    system.sent()
    first.set()
    system.noted("wait 1")
    assert passed(system, "waited 0", "critical") <= 1
    system.until(lambda: system.state(urgent) == "waiting", timeout_s=10)
    system.sent()
    second.set()
    assert system.finished(BACKLOG + 3) == {"completed": BACKLOG + 3}
    assert passed(system, "waited 1", "critical") <= 1


def test_five_priorities_are_five(system: System) -> None:
    gate = system.gate()

    @system.actor(queue_name="narrow")
    def wait() -> None:
        system.note("waiting")
        gate.wait(30)

    @system.actor(queue_name="narrow")
    def count(priority: int) -> None:
        system.note(priority)

    wait.send()
    system.work()
    system.noted("waiting")
    for priority in (4, 2, 5, 1, 3):
        count.send_with_options(args=(priority,), priority=priority)
    system.sent()
    gate.set()
    assert system.finished(6) == {"completed": 6}
    # One of them may be in the process already, when a more urgent one comes.
    assert [x for x in system.notes[1:] if x != 4] == [1, 2, 3, 5]


def test_a_delayed_critical_job_passes_the_backlog_when_it_is_due(system: System) -> None:
    gate = system.gate()

    @system.actor(queue_name="narrow")
    def wait() -> None:
        system.note("waiting")
        gate.wait(30)
        system.note("waited")

    @system.actor(queue_name="narrow", priority=5)
    def background() -> None:
        system.note("background")

    @system.actor(queue_name="narrow", priority=1)
    def critical() -> None:
        system.note("critical")

    wait.send()
    system.work()
    system.noted("waiting")
    urgent = critical.send_with_options(delay=100)
    system.broker.enqueue_many([background.message() for _ in range(BACKLOG)])
    system.until(lambda: system.state(urgent) == "waiting")
    system.sent()
    gate.set()
    assert system.finished(BACKLOG + 2) == {"completed": BACKLOG + 2}
    assert passed(system, "waited", "critical") <= 1


def passed(system: System, after: str, line: str) -> int:
    """How many notes of others there are between ``after`` and the next ``line``."""
    start = system.notes.index(after) + 1
    return system.notes.index(line, start) - start

"""A critical job is among the next ones started, however many others wait; so is its retry."""

import pytest

from tests.acceptance.rabbit import Rabbit, settled
from tests.acceptance.system import System
from tests.servers import RabbitMQ

BACKGROUND = 300


@pytest.fixture
def rabbit_or_none(request: pytest.FixtureRequest, anywhere: System) -> Rabbit | None:
    if anywhere.broker_url is None:
        return None
    server = request.getfixturevalue("rabbitmq")
    assert isinstance(server, RabbitMQ)
    return Rabbit(server, anywhere.broker_url)


def test_a_critical_job_and_its_retry_pass_a_backlog(anywhere: System, rabbit_or_none: Rabbit | None) -> None:
    system = anywhere
    system.env["WORKER_QUEUE_STALLED_INTERVAL"] = "20000"
    system.worker()
    first, second = (f"hold.message(log, '{name}', {str(system.folder / name)!r})" for name in ("first", "second"))
    system.run(f"broker.enqueue({first}.copy(queue_name='narrow'))")
    system.until(lambda: system.ran() == ["start first"])
    background(system, "record_narrow", BACKGROUND)
    system.run(
        "broker.enqueue(fail_once.message_with_options(args=(log, 'critical'), priority=1).copy(queue_name='narrow'))\n"
        f"broker.enqueue({second}.copy(queue_name='narrow', options={{'priority': 1}}))"
    )
    confirmed(system)
    (system.folder / "first").touch()
    system.until(lambda: "start second" in system.ran())
    assert passed(system, "end first", "critical") <= 1
    retried = "SELECT count(*) FROM attempts WHERE outcome = 'retrying'"
    system.until(lambda: system.sql(retried) == [(1,)], because="for the failure of the critical job")
    confirmed(system)
    (system.folder / "second").touch()
    assert system.finished(BACKGROUND + 3) == {"completed": BACKGROUND + 3}
    assert system.ran().count("critical") == 2
    assert passed(system, "end second", "critical") <= 1
    settled(system, rabbit_or_none)


def test_of_what_a_process_has_prefetched_the_critical_one_goes_first(unhurried: System, rabbit: Rabbit) -> None:
    system = unhurried
    system.worker()
    gates = [str(system.folder / f"gate{n}") for n in range(8)]
    system.run(f"for gate in {gates}: hold.send(log, gate, gate)")
    system.until(lambda: len(system.ran()) == 8)
    background(system, "linger", 40, ", 300")
    system.run("record.send_with_options(args=(log, 'critical'), priority=1)")
    confirmed(system)
    (system.folder / "gate0").touch()
    system.until(lambda: "critical" in system.ran())
    assert passed(system, f"end {gates[0]}", "critical") <= 2
    for gate in gates:
        (system.folder / gate).touch()
    assert system.finished(49) == {"completed": 49}
    settled(system, rabbit)


def background(system: System, actor: str, count: int, more: str = "") -> None:
    many = f"[{actor}.message_with_options(args=(log, n{more}), priority=5) for n in range({count})]"
    system.run(f"broker.enqueue_many({many})")
    confirmed(system)


def confirmed(system: System) -> None:
    """Wait until everything due is where a worker looks for it."""
    unsent = "SELECT count(*) FROM tickets WHERE NOT ready"
    system.until(lambda: system.sql(unsent) == [(0,)], because="for the marks")


def passed(system: System, after: str, line: str) -> int:
    """How many lines of others there are between ``after`` and the next ``line``."""
    ran = system.ran()
    start = ran.index(after) + 1
    return ran.index(line, start) - start

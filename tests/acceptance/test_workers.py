"""Real worker processes that operators ask to be quiet, to go on, to stop, and to run more at once."""

import signal
from collections import Counter
from pathlib import Path

import pytest

from control import Control
from control.limits import change
from control.workers import quiet, resume, stop
from ledger.orders import Ends, Knob, Mode, rule_of
from tests.acceptance.system import System
from tests.acceptance.test_cli import Place, until
from tests.servers import RabbitMQ

pytestmark = pytest.mark.prove


def control_of(system: System) -> Control:
    return Control(system.database_url, "rabbitmq" if system.broker_url else "embedded")


def test_a_quiet_worker_starts_nothing_and_the_other_takes_over(anywhere: System, rabbitmq: RabbitMQ) -> None:
    system, control = anywhere, control_of(anywhere)
    system.worker(processes=2)
    system.until(lambda: [x.mode for x in system.queries.workers()] == [Mode.RUNNING] * 2)
    first, second = system.queries.workers()
    system.run("broker.enqueue_many([linger.message(log, n, 20) for n in range(400)])")
    system.until(lambda: len(system.ran()) > 20)
    quiet(control, first.id, by="a test")
    system.until(lambda: system.queries.worker(first.id).mode is Mode.QUIET)  # type: ignore[union-attr]
    quiet_at = system.sql("SELECT at FROM worker_reports WHERE worker_id = :id", id=first.id)[0][0]
    assert system.finished(400) == {"completed": 400}
    assert Counter(system.ran()) == Counter(map(str, range(400)))
    late = "SELECT count(*) FROM attempts WHERE worker_id = :id AND outcome = 'completed' AND started_at > :at"
    assert system.sql(late, id=first.id, at=quiet_at) == [(0,)]
    assert system.sql("SELECT count(*) > 0 FROM attempts WHERE worker_id = :id", id=second.id) in ([(True,)], [(1,)])
    quiet(control, second.id, by="a test")
    system.until(lambda: all(x.mode is Mode.QUIET for x in system.queries.workers()))
    system.run("record.send(log, 'later')")
    resume(control, first.id, by="a test")
    system.until(lambda: "later" in system.ran())
    assert system.sql("SELECT max(ticket) < 5 FROM jobs") in ([(True,)], [(1,)]), "no message went round and round"
    control.close()


def test_dramatiqs_command_line_ends_all_its_workers_in_good_order_when_one_is_asked_to_stop(
    anywhere: System,
) -> None:
    system, control = anywhere, control_of(anywhere)
    worker = system.worker(processes=2)
    system.until(lambda: [x.ends for x in system.queries.workers()] == [Ends.TOGETHER] * 2)
    first, second = system.queries.workers()
    assert {first.master, second.master} == {worker.process.pid}
    system.run("nap.send(log, 'runs', 1.0)")
    system.until(lambda: system.ran() == ["runs"])
    stop(control, first.id, by="a test")
    assert worker.process.wait(30) == 0
    assert system.finished(1) == {"completed": 1}
    assert [x.state for x in system.queries.workers(everyone=True)] == ["stopped", "stopped"]
    control.close()


def test_a_change_of_concurrency_reaches_running_workers(anywhere: System) -> None:
    system, control = anywhere, control_of(anywhere)
    system.worker()
    system.run("broker.enqueue_many([span_narrow.message(log, n, 0.5) for n in range(12)])")
    system.until(lambda: system.ran())
    change(control, rule_of(Knob.CONCURRENCY, "narrow"), 6, 0.0, 1, by="a test")
    system.until(lambda: system.queries.workers()[0].slots.get("narrow") == 6, timeout_s=10)
    system.until(lambda: system.queries.workers()[0].active == 6)
    assert system.finished(12) == {"completed": 12}
    system.worker(ready=True)
    system.until(lambda: system.queries.workers()[1].slots.get("narrow") == 6, because="for one that starts later")
    control.close()


@pytest.fixture
def place(tmp_path: Path, sqlite_url: str) -> Place:
    return Place(tmp_path, sqlite_url)


def test_hareline_worker_starts_no_other_in_the_place_of_one_that_was_stopped(place: Place) -> None:
    with place.program("worker", "-p", "2", "-Q", "maintenance") as program:
        program.wait("worker.ready", count=2)
        until(lambda: [x.ends for x in place.workers("running")] == [Ends.ALONE] * 2)
        first, second = place.workers("running")
        assert f"worker {first.id} is to stop" in place.run("workers", "stop", str(first.id), "--wait", "60s")
        program.wait("worker.dismissed")
        place.run("workers", "quiet", str(second.id), "--wait", "30s")
        assert [(x.id, x.mode) for x in place.workers("running")] == [(second.id, Mode.QUIET)]
        assert "quiet" in place.run("workers", "ls")
        assert "asked" in place.run("workers", "show", str(second.id))
        program.send(signal.SIGHUP)  # brings back what was stopped
        program.wait("worker.ready", count=4)
        both = until(lambda: len(found := [x for x in place.workers("running") if x.mode]) == 2 and found)
        assert second.id not in [x.id for x in both]
        place.run("workers", "stop", *(str(x.id) for x in both), "--wait", "60s")
        program.wait("workers.stopped")
        assert program.process.wait(30) == 0
    assert "no worker" in place.run("workers", "show", "4711", code=3)
    assert "is stopped" in place.run("workers", "stop", str(first.id), code=4)

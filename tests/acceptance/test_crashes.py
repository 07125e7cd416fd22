"""Workers and producers killed at any moment: nothing is lost, nothing that had finished runs again."""

import signal
from pathlib import Path

import pytest

from control.jobs import cancel
from control.transaction import Control
from tests.acceptance.evidence import job, jobs, nothing_left, ran
from tests.acceptance.system import System


def test_jobs_of_a_killed_worker_run_again_and_those_it_had_completed_do_not(anywhere: System) -> None:
    worker = anywhere.worker()
    release = [anywhere.folder / f"release-{number}" for number in range(8)]
    anywhere.run(f"for n, path in enumerate({[str(path) for path in release]}): hold.send(log, str(n), path)")
    anywhere.until(lambda: len(anywhere.ran()) == 8, because="waiting for 8 jobs to run at once")
    for path in release[:5]:
        path.touch()
    anywhere.until(lambda: anywhere.states().get("completed") == 5)
    worker.kill()

    for path in release[5:]:
        path.touch()
    anywhere.worker()
    assert anywhere.finished(8) == {"completed": 8}
    found = {x.line: x for x in jobs(anywhere)}
    for number in range(5):
        assert found[str(number)].outcomes == ["completed"]
    for number in range(5, 8):
        assert found[str(number)].outcomes == ["crashed", "completed"]
        assert (found[str(number)].crashes, found[str(number)].charges) == (1, 0)
    starts = [ran(anywhere)[f"start {number}"] for number in range(8)]
    assert starts == [1] * 5 + [2] * 3
    nothing_left(anywhere)


def test_a_backlog_outlives_all_its_workers(anywhere: System) -> None:
    worker = anywhere.worker()
    release = anywhere.folder / "release"
    anywhere.run(
        "broker.enqueue_many([record.message(log, str(n)) for n in range(100)])\n"
        f"broker.enqueue_many([hold.message(log, str(n), {str(release)!r}) for n in range(100, 108)])\n"
        "broker.enqueue_many([record.message(log, str(n)) for n in range(108, 300)])"
    )
    anywhere.until(lambda: sum(line.startswith("start") for line in anywhere.ran()) == 8)
    worker.kill()
    before = {found.id: found for found in jobs(anywhere) if found.state == "completed"}
    assert len(before) >= 50

    release.touch()
    anywhere.worker(processes=2)
    assert anywhere.finished(300, 60) == {"completed": 300}
    times = ran(anywhere)
    ahead = 0
    for found in jobs(anywhere):
        in_flight = 100 <= int(found.line) < 108
        crashed = found.outcomes == ["crashed", "completed"]
        ahead += crashed and not in_flight
        assert crashed or (found.outcomes == ["completed"] and not in_flight)
        assert times[f"start {found.line}" if in_flight else found.line] == (2 if in_flight else 1)
        assert found == before.get(found.id, found)
    assert ahead <= 8, "no more were claimed ahead than there are slots"
    nothing_left(anywhere)


@pytest.mark.parametrize(
    ("step", "recorded"),
    [("enqueue.before_commit", 2), ("enqueue.committed", 3), ("send.recorded", 3)],
)
def test_a_producer_killed_while_sending_leaves_a_job_or_none(anywhere: System, step: str, recorded: int) -> None:
    anywhere.worker()
    died = anywhere.run(
        "for n in range(5): record.send(log, str(n))", env={"HARELINE_FAILPOINTS": f"{step}=kill@3"}, check=False
    )
    assert died.returncode == -signal.SIGKILL
    assert anywhere.finished(recorded) == {"completed": recorded}
    assert ran(anywhere) == {str(number): 1 for number in range(recorded)}
    nothing_left(anywhere)


def test_a_producer_killed_at_a_confirm_has_sent_its_jobs_once(on_rabbitmq: System) -> None:
    on_rabbitmq.worker()
    died = on_rabbitmq.run(
        "for n in range(5): record.send(log, str(n))\nbroker.road.flush(30)",
        env={"HARELINE_FAILPOINTS": "publish.confirmed=kill"},
        check=False,
    )
    assert died.returncode == -signal.SIGKILL
    recorded = len(jobs(on_rabbitmq))
    assert on_rabbitmq.finished(recorded) == {"completed": recorded}
    assert recorded >= 1
    assert ran(on_rabbitmq) == {str(number): 1 for number in range(recorded)}
    nothing_left(on_rabbitmq)


#: step -> how long its jobs are delayed, in ms
STEPS = {
    "claim.before_commit": 0,
    "claim.committed": 0,
    "finish.before_commit": 0,
    "finish.committed": 0,
    "promote.committed": 100,
    "relay.stamped": 100,
}


@pytest.mark.parametrize("step", STEPS)
def test_a_worker_killed_between_two_steps_loses_nothing(anywhere: System, step: str) -> None:
    anywhere.env["WORKER_QUEUE_STALLED_INTERVAL"] = "1000"
    anywhere.run(f"for n in range(3): record.send_with_options(args=(log, str(n)), delay={STEPS[step]})")
    doomed = anywhere.worker(env={"HARELINE_FAILPOINTS": f"{step}=kill"}, ready=False)
    anywhere.until(lambda: anywhere.sql("SELECT 1 FROM workers") and not doomed.children())
    doomed.kill()  # dramatiq's main process, which waits half a minute for a worker that died while it booted
    before = {found.id: found for found in jobs(anywhere)}

    anywhere.worker()
    assert anywhere.finished(3) == {"completed": 3}
    times = ran(anywhere)
    for found in jobs(anywhere):
        assert found.outcomes == ["crashed"] * found.crashes + ["completed"]
        assert times[found.line] == 1 or (times[found.line], found.crashes) == (2, 1)
        if before[found.id].state == "completed":
            assert found == before[found.id]
    crashed = sum(found.crashes for found in jobs(anywhere))
    match step:
        case "claim.committed":
            assert crashed > 0
            assert set(times.values()) == {1}
        case "finish.before_commit":
            assert crashed > 0
            assert 2 in times.values()
        case "finish.committed":
            assert "completed" in {found.state for found in before.values()}
        case "claim.before_commit":
            assert (crashed, set(times.values())) == (0, {1})
        case _:
            assert {found.state for found in before.values()} & {"waiting", "active"}, "it died when they were due"
    nothing_left(anywhere)


def test_a_cancel_asked_for_during_a_run_that_crashes_is_not_forgotten(anywhere: System) -> None:
    worker = anywhere.worker()
    release = anywhere.folder / "release"
    anywhere.run(f"hold.send(log, 'one', {str(release)!r})")
    anywhere.until(anywhere.ran)
    control = Control(anywhere.database_url, "rabbitmq" if anywhere.broker_url else "embedded")
    assert cancel(control, job(anywhere, "one").id, by="a test") == "requested"
    control.close()
    worker.kill()
    anywhere.worker()
    assert anywhere.finished(1) == {"cancelled": 1}
    Path(release).touch()
    nothing_left(anywhere)
    assert job(anywhere, "one").outcomes == ["crashed"]
    assert anywhere.ran() == ["start one"]

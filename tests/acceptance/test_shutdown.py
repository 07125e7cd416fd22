"""SIGTERM: what has not started goes back at once, what runs may end, what runs too long is interrupted."""

import signal
import time

from tests.acceptance.evidence import jobs, nothing_left, ran
from tests.acceptance.system import System


def test_a_worker_told_to_stop_returns_what_it_has_not_started_before_its_slow_jobs_end(anywhere: System) -> None:
    anywhere.env["HARELINE_SHUTDOWN_GRACE_S"] = "60"
    release = anywhere.folder / "release"
    anywhere.run(
        f"for n in range(8): hold.send(log, str(n), {str(release)!r})\n"
        "for n in range(20): record.send(log, f'later {n}')"
    )
    worker = anywhere.worker()
    anywhere.until(lambda: len(anywhere.ran()) == 8)
    worker.process.send_signal(signal.SIGTERM)
    anywhere.until(lambda: anywhere.sql("SELECT 1 FROM workers WHERE state = 'stopping'"))
    anywhere.worker(args=("-Q", "work"))
    anywhere.until(lambda: anywhere.states() == {"completed": 20, "active": 8}, because="the others run elsewhere")
    assert worker.process.poll() is None
    release.touch()
    assert worker.process.wait(20) == 0
    assert anywhere.finished(28) == {"completed": 28}
    assert all((x.outcomes, x.crashes, x.attempts) == (["completed"], 0, 1) for x in jobs(anywhere))
    assert set(ran(anywhere).values()) == {1}
    nothing_left(anywhere)


def test_a_running_job_beyond_the_grace_is_interrupted_at_no_cost_and_runs_again(anywhere: System) -> None:
    anywhere.env["HARELINE_SHUTDOWN_GRACE_S"] = "1"
    short, never = anywhere.folder / "short", anywhere.folder / "never"
    worker = anywhere.worker()
    anywhere.run(
        f"hold.send(log, 'quick', {str(short)!r})\nfor n in range(3): hold.send(log, f'slow {{n}}', {str(never)!r})"
    )
    anywhere.until(lambda: len(anywhere.ran()) == 4)
    began = time.monotonic()
    worker.process.send_signal(signal.SIGTERM)
    anywhere.until(lambda: anywhere.sql("SELECT 1 FROM workers WHERE state = 'stopping'"))
    short.touch()
    assert worker.process.wait(20) == 0
    assert time.monotonic() - began < 15
    assert anywhere.states() == {"completed": 1, "waiting": 3}
    assert anywhere.sql("SELECT * FROM claims") == []
    waiting = [x for x in jobs(anywhere) if x.state == "waiting"]
    assert all((x.outcomes, x.attempts, x.crashes) == (["interrupted"], 0, 0) for x in waiting)

    never.touch()
    anywhere.worker()
    assert anywhere.finished(4) == {"completed": 4}
    assert all((x.attempts, x.crashes) == (1, 0) for x in jobs(anywhere))
    assert ran(anywhere)["end quick"] == 1
    assert all((ran(anywhere)[f"start slow {n}"], ran(anywhere)[f"end slow {n}"]) == (2, 1) for n in range(3))
    nothing_left(anywhere)

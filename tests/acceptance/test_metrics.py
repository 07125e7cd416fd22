"""What Prometheus reads of worker processes is what the ledger has, whoever is killed."""

import os
import subprocess
import sys

import pytest

from tests.acceptance.metered import agree, churn, differences, metered, page, samples, served
from tests.acceptance.system import System
from tests.program import Program, hareline
from tests.servers.promtool import promtool

pytestmark = pytest.mark.prove


def test_four_workers_that_are_killed_count_what_the_ledger_has(somewhere: System) -> None:
    port = metered(somewhere)
    churn(somewhere, port, 400, 4)


def test_a_finish_of_which_nobody_heard_is_counted_once_if_it_was_committed(anywhere: System) -> None:
    system = anywhere
    port = metered(system)
    system.worker()  # it serves
    system.until(lambda: page(port))
    dying = [
        system.worker(env={"HARELINE_FAILPOINTS": f"finish.{step}=kill@3"}, ready=False)
        for step in ("before_commit", "committed")
    ]
    system.run("for number in range(60): linger.send(log, number, 20)")
    system.until(lambda: all(worker.process.poll() is not None for worker in dying))
    system.finished(60)
    system.until(lambda: agree(system, port), because=f"ledger and scrape: {differences(system, port)}")


_SCHEDULER = """
import sys
from scheduler import Schedule, main
sys.exit(main([Schedule("beat", actor="cleanup_audit_log", when="every 1s", args=(0,))]))
"""


def test_promtool_accepts_what_workers_a_scheduler_and_the_console_serve(somewhere: System) -> None:
    """All of them on one host, at one address; a job fails for good, a worker is killed with one in hand."""
    system = somewhere
    port = metered(system)
    (system.folder / "beat.py").write_text(_SCHEDULER)
    console = {"HARELINE_CONSOLE_INSECURE_LOCAL": "true", "HARELINE_CONSOLE_PORT": "0"}
    with (
        Program([sys.executable, "beat.py"], system.folder, system.env) as scheduler,
        Program(hareline("console"), system.folder, {**system.env, **console}) as pages,
    ):
        doomed = system.worker()
        system.run("hold.send(log, 1, '/nowhere')")
        system.until(lambda: system.ran())
        doomed.kill()
        system.worker()
        system.run("fail.send(log, 2)\nfor n in range(20): metered.send(log, n)")
        system.until(lambda: samples(port, "hareline_crashes_total"), 60)
        system.until(lambda: system.states().get("failed") == 3, 60)  # two of the twenty, and the one
        roles = {"worker", "scheduler", "console"}
        system.until(lambda: {role for (role,) in samples(port, "hareline_processes")} == roles, 60)
        system.until(lambda: {"hareline_jobs_total", "hareline_schedule_lateness_seconds"} <= served(port), 60)
        _check_metrics(page(port))
        assert scheduler.process.poll() is None
        assert pages.process.poll() is None


def _check_metrics(text: str) -> None:
    """By promtool, where it can be had."""
    try:
        checker = promtool()
    except FileNotFoundError:
        if os.environ.get("HARELINE_TEST_PROMTOOL") == "required":
            raise
        pytest.skip("promtool cannot be had here")
    done = subprocess.run([checker, "check", "metrics"], input=text, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

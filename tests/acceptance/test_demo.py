"""``hareline demo`` as a newcomer runs it: on every road, on a used database, with a worker killed, told to stop."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from cli.demo.drive import read, uuids
from cli.demo.totals import busy_plan, expected
from ledger.queries import Queries
from ledger.states import State
from tests.acceptance.conftest import SPINE_ROADS, carrier, database
from tests.program import Program, environment, hareline

EVENTS = 300

pytestmark = pytest.mark.timeout(300)


def totals(events: int = EVENTS) -> dict[str, Any]:
    """What a run must come to, computed in this process."""
    given = read(events)
    must: dict[str, Any] = json.loads(json.dumps(expected(given, busy_plan(uuids(given, ""))).as_json()))
    return must


def demo(folder: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        hareline("demo", "--events", str(EVENTS), *arguments),
        cwd=folder,
        env=environment(**env),
        capture_output=True,
        text=True,
        timeout=240,
    )


def where(url: str, broker_url: str | None = None) -> dict[str, str]:
    return {"DATABASE_URL": url} | ({"BROKER_URL": broker_url} if broker_url else {})


@pytest.mark.parametrize("road", SPINE_ROADS)
def test_the_totals_are_the_same_on_every_road(road: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    done = demo(tmp_path, "--json", **where(database(request, road), carrier(request, road)))

    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert json.loads(done.stdout) == totals()


def test_without_any_setting_it_tells_a_newcomer_what_happened_and_leaves_nothing_behind(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()

    done = demo(tmp_path, TMPDIR=str(scratch))

    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    for told in ("Dead letters", "UnknownModel", "InvalidEvent", "Cost by customer", "northwind", "jobs in", "p99"):
        assert told in done.stdout
    assert list(scratch.iterdir()) == []
    assert [path.name for path in tmp_path.iterdir()] == ["scratch"]


@pytest.mark.prove
def test_on_a_used_database_it_counts_its_own_jobs_only(postgres_url: str, tmp_path: Path) -> None:
    first, second = (json.loads(demo(tmp_path, "--json", **where(postgres_url)).stdout) for _ in range(2))

    assert first == second


def test_it_loses_nothing_when_a_worker_is_killed_in_the_middle(sqlite_url: str, tmp_path: Path) -> None:
    env = environment(**where(sqlite_url), WORKER_QUEUE_STALLED_INTERVAL="2000")
    with Program(hareline("demo", "--events", str(EVENTS), "-p", "1", "--json"), tmp_path, env) as running:
        os.kill(busy_worker(sqlite_url), signal.SIGKILL)
        code = running.process.wait(240)
    output = "\n".join(running.lines)

    assert code == 0, output
    assert json.loads(output) == totals()


def test_told_to_stop_it_takes_its_workers_with_it(tmp_path: Path) -> None:
    with Program(hareline("demo", "-p", "1"), tmp_path, environment(TMPDIR=str(tmp_path))) as running:
        worker = busy_worker(database_made_in(tmp_path))
        assert running.stop(signal.SIGTERM) == 128 + signal.SIGTERM

    assert not Path(f"/proc/{worker}").exists()
    assert list(tmp_path.iterdir()) == []


def busy_worker(url: str, timeout_s: float = 120.0) -> int:
    """The pid of a worker that is in the middle of its jobs."""
    queries = Queries(url)
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        done = queries.counts().get("usage-tracking", {}).get(State.COMPLETED, 0)
        for worker in queries.workers():
            if done and worker.active:
                return worker.pid
        time.sleep(0.02)
    raise AssertionError(f"no worker was busy within {timeout_s} s")


def database_made_in(folder: Path, timeout_s: float = 60.0) -> str:
    """The address of the temporary database, once there is one."""
    deadline = time.monotonic() + timeout_s
    while not (found := list(folder.glob("hareline-demo-*/hareline.db"))):
        assert time.monotonic() < deadline, f"no database was made within {timeout_s} s"
        time.sleep(0.02)
    return f"sqlite:///{found[0]}"

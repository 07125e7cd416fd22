"""A critical job behind a backlog nobody would want to have."""

from typing import Any

import pytest

from tests.acceptance.starts import seconds
from tests.acceptance.system import System

BACKLOG, CRITICAL = 200_000, 20
LATEST_S = 0.25


@pytest.mark.timeout(600)
def test_a_critical_job_starts_at_once_behind_two_hundred_thousand(anywhere: System) -> None:
    system = anywhere
    sender = system.shell()
    for first in range(0, BACKLOG, 2_000):
        names = f"range({first}, {first + 2_000})"
        sender.run(f"broker.enqueue_many([nap.message_with_options(args=(log, n, 0.02), priority=5) for n in {names}])")
    if system.broker_url:
        system.worker(args=("--queues", "other"))  # its relay sends what the producer had no room for
        system.until(lambda: system.sql("SELECT count(*) FROM tickets") == [(0,)], 120, because="for the confirms")
    assert system.states() == {"waiting": BACKLOG}
    system.worker()
    system.until(lambda: len(system.ran()) > 100)
    tried: list[tuple[Any, ...]] = []
    while len(tried) < CRITICAL:
        sender.run("nap.send_with_options(args=(log, 'critical', 0.02), priority=1)")
        expected = len(tried) + 1
        system.until(lambda expected=expected: len(_critical(system)) == expected)  # type: ignore[misc]
        tried = _critical(system)
    late = sorted(seconds(started) - seconds(created) for started, created in tried)
    waiting = system.states()["waiting"]
    print(f"{waiting:,} waiting; started after {late[len(late) // 2] * 1000:.0f} ms, the last {late[-1] * 1000:.0f} ms")
    assert waiting > 0.9 * BACKLOG
    assert late[-1] <= LATEST_S


def _critical(system: System) -> list[tuple[Any, ...]]:
    """(started, created) of each critical job that has run."""
    newest = f"SELECT * FROM jobs ORDER BY id DESC LIMIT {CRITICAL}"
    return system.sql(
        f"SELECT a.started_at, j.created_at FROM ({newest}) j JOIN attempts a ON j.id = a.job_id WHERE j.priority = 1"
    )

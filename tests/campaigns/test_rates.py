"""A rate over processes that keep dying, by the times at which attempts started according to the ledger."""

import time
from collections import deque

import pytest

from tests.acceptance.evidence import nothing_left
from tests.acceptance.starts import busiest, starts
from tests.acceptance.system import System, Worker

RATE, BURST, SECONDS = 50, 10, 60
APP = "tests.acceptance.limited"


@pytest.mark.timeout(300)
def test_fifty_a_second_over_four_processes_one_of_which_dies_every_ten_seconds(anywhere: System) -> None:
    system = anywhere
    system.shell(APP).run(f"broker.enqueue_many([fifty.message(log, str(n)) for n in range({RATE * SECONDS})])")
    workers = deque[Worker](system.worker(app=APP) for _ in range(4))
    system.until(lambda: len(system.ran()) >= RATE)
    while system.states().get("completed", 0) < RATE * (SECONDS - 10):
        _pause(system, 10)
        workers.popleft().kill()
        workers.append(system.worker(app=APP, ready=False))
    assert system.finished(RATE * SECONDS) == {"completed": RATE * SECONDS}
    times = starts(system, "fifty")
    assert busiest(times) <= RATE + BURST
    used = (len(times) - 1) / (times[-1] - times[0]) / RATE
    print(f"{used:.1%} of the rate used, at most {busiest(times)} in a second")
    # Writers of one SQLite file wait for each other by looking again and again: four processes miss more than a burst.
    assert used >= (0.97 if system.broker_url else 0.85)
    nothing_left(system)


def _pause(system: System, seconds: float) -> None:
    """Let it run, but not beyond its end."""
    until = time.monotonic() + seconds
    system.until(lambda: time.monotonic() > until or not system.states().get("delayed"), seconds + 5)

"""What Prometheus reads of worker processes is what the ledger has, whoever is killed."""

import pytest

from tests.acceptance.metered import agree, churn, differences, metered, page
from tests.acceptance.system import System

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

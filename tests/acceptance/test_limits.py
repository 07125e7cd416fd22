"""Rate limits over several processes, by the times at which attempts started according to the ledger."""

from tests.acceptance.evidence import nothing_left, ran
from tests.acceptance.starts import busiest, starts
from tests.acceptance.system import System

APP = "tests.acceptance.limited"


def test_a_limit_holds_over_processes_that_are_killed(somewhere: System) -> None:
    somewhere.shell(APP).run("broker.enqueue_many([tick.message(log, str(n)) for n in range(160)])")
    first, _ = somewhere.worker(app=APP, processes=2), somewhere.worker(app=APP)
    somewhere.until(lambda: len(somewhere.ran()) >= 40)
    first.kill()
    somewhere.worker(app=APP, processes=2)
    assert somewhere.finished(160) == {"completed": 160}
    assert busiest(starts(somewhere, "tick")) <= 20 + 1  # how much of it is used: tests/campaigns/test_rates.py
    assert set(ran(somewhere)) == {str(n) for n in range(160)}
    nothing_left(somewhere)


def test_no_start_is_before_its_slot(somewhere: System) -> None:
    somewhere.worker(app=APP)
    somewhere.shell(APP).run("for n in range(3): once_more.send(log, str(n))")
    assert somewhere.finished(3) == {"completed": 3}
    first, second, third = starts(somewhere, "once_more")
    assert second - first > 1.99
    assert third - first > 3.99  # the second may have been late for its slot: the third then comes sooner after it
    nothing_left(somewhere)

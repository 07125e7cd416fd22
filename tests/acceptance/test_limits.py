"""Rate limits over several processes, by the times at which attempts started according to the ledger."""

from itertools import pairwise

from tests.acceptance.evidence import nothing_left, ran
from tests.acceptance.starts import busiest, starts
from tests.acceptance.system import System

APP = "tests.acceptance.limited"


def test_a_limit_holds_over_processes_that_are_killed_and_is_used_to_the_full(somewhere: System) -> None:
    somewhere.shell(APP).run("broker.enqueue_many([tick.message(log, str(n)) for n in range(160)])")
    first, _ = somewhere.worker(app=APP, processes=2), somewhere.worker(app=APP)
    somewhere.until(lambda: len(somewhere.ran()) >= 40)
    first.kill()
    somewhere.worker(app=APP, processes=2)
    assert somewhere.finished(160) == {"completed": 160}
    times = starts(somewhere, "tick")
    assert busiest(times) <= 20 + 1
    assert set(ran(somewhere)) == {str(n) for n in range(160)}
    steady = times[45:]  # what the dead processes had been allowed to start is lost
    assert len(steady) / (steady[-1] - steady[0]) > 0.9 * 20
    nothing_left(somewhere)


def test_the_interval_holds_between_any_two_starts(somewhere: System) -> None:
    somewhere.worker(app=APP)
    somewhere.shell(APP).run("for n in range(3): once_more.send(log, str(n))")
    assert somewhere.finished(3) == {"completed": 3}
    gaps = [late - early for early, late in pairwise(starts(somewhere, "once_more"))]
    assert [gap > 1.99 for gap in gaps] == [True, True]
    assert max(gaps) < 4
    nothing_left(somewhere)

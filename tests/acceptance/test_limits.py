"""Rate limits over several processes, by the times at which attempts started according to the ledger."""

from itertools import pairwise

from tests.acceptance.evidence import nothing_left, ran
from tests.acceptance.starts import busiest, starts
from tests.acceptance.system import System

APP = "tests.acceptance.limited"


def test_a_limit_holds_over_processes_that_are_killed_and_is_used_to_the_full(anywhere: System) -> None:
    anywhere.shell(APP).run("broker.enqueue_many([tick.message(log, str(n)) for n in range(160)])")
    first, _ = anywhere.worker(app=APP, processes=2), anywhere.worker(app=APP)
    anywhere.until(lambda: len(anywhere.ran()) >= 40)
    first.kill()
    anywhere.worker(app=APP, processes=2)
    assert anywhere.finished(160) == {"completed": 160}
    times = starts(anywhere, "tick")
    assert busiest(times) <= 20 + 1
    assert set(ran(anywhere)) == {str(n) for n in range(160)}
    steady = times[45:]  # what the dead processes had been allowed to start is lost
    assert len(steady) / (steady[-1] - steady[0]) > 0.9 * 20
    nothing_left(anywhere)


def test_every_value_of_a_key_has_a_limit_of_its_own_and_nobody_waits_for_another(anywhere: System) -> None:
    anywhere.worker(app=APP)
    anywhere.shell(APP).run(
        "broker.enqueue_many([mail.message(log, 'ada', n) for n in range(20)] + [mail.message(log, 'bob', 0)])"
    )
    anywhere.until(lambda: "bob 0" in anywhere.ran())
    assert len(anywhere.ran()) < 12, "bob did not wait for ada's backlog"
    assert anywhere.finished(21) == {"completed": 21}
    [ada] = anywhere.sql("SELECT count(*) FROM limits WHERE key = :key", key='actor:mail:user="ada"')
    assert ada == (1,)
    assert busiest(starts(anywhere, "mail")) <= 4 + 2 + 1
    assert anywhere.sql("SELECT DISTINCT attempts FROM jobs") == [(1,)], "waiting for a limit is no attempt"
    nothing_left(anywhere)


def test_a_429_stops_the_whole_limit(anywhere: System) -> None:
    anywhere.worker(app=APP)
    sender = anywhere.shell(APP)
    sender.run("call.send(log, 'before'); call.send(log, '429')")
    snoozed = "SELECT finished_at FROM attempts WHERE outcome = 'snoozed'"
    anywhere.until(lambda: anywhere.sql(snoozed))
    sender.run("call.send(log, 'after')")
    anywhere.until(lambda: "after" in anywhere.ran())
    anywhere.until(lambda: len(starts(anywhere, "call")) >= 3, because="of its attempt, recorded when it ends")
    first, *_, last = starts(anywhere, "call")
    assert last - first > 1.9
    spent = "SELECT attempts FROM jobs WHERE id IN (SELECT job_id FROM attempts WHERE outcome = 'snoozed')"
    assert anywhere.sql(spent) == [(0,)]


def test_the_interval_holds_between_any_two_starts(anywhere: System) -> None:
    anywhere.worker(app=APP)
    anywhere.shell(APP).run("for n in range(3): once_more.send(log, str(n))")
    assert anywhere.finished(3) == {"completed": 3}
    gaps = [late - early for early, late in pairwise(starts(anywhere, "once_more"))]
    assert [gap > 1.99 for gap in gaps] == [True, True]
    assert max(gaps) < 4
    nothing_left(anywhere)

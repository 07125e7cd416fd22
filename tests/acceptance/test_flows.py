"""Workflows on real processes that are killed."""

import os

import pytest

from tests.acceptance.evidence import nothing_left, ran
from tests.acceptance.system import System

APP = "tests.acceptance.flowing"
#: Ten thousand in ``make prove``.
ITEMS = int(os.environ.get("HARELINE_TEST_ITEMS", "2000"))


def state(system: System) -> str:
    [(found,)] = system.sql("SELECT state FROM flows")
    return str(found)


def test_many_items_are_joined_once_though_their_workers_are_killed(somewhere: System) -> None:
    first = somewhere.worker(app=APP, processes=2)
    sender = somewhere.shell(APP)
    sender.run(f"flow = counting.start(items={ITEMS}, path=log)")
    somewhere.until(lambda: len(somewhere.ran()) > ITEMS // 5)
    first.kill()
    second = somewhere.worker(app=APP, processes=2)
    somewhere.until(lambda: len(somewhere.ran()) > ITEMS // 2)
    second.kill()
    somewhere.worker(app=APP, processes=2)
    somewhere.until(lambda: state(somewhere) == "completed", 120)
    times = ran(somewhere)
    assert times.pop(f"joined {ITEMS}") == 1
    assert set(times) == {str(number) for number in range(ITEMS)}
    attempts = "SELECT count(*) FROM attempts a JOIN jobs j ON j.id = a.job_id WHERE j.actor = 'square'"
    assert sum(times.values()) <= somewhere.sql(attempts)[0][0], "an item ran twice only where that is recorded"
    assert somewhere.sql("SELECT count(*) FROM jobs WHERE actor = 'total'") == [(1,)]
    assert somewhere.sql("SELECT state, count(*) FROM flow_jobs GROUP BY state") == [("completed", ITEMS + 2)]
    answer = sender.run("print(flow.result(), flow.progress)").strip()
    whole = f"FlowProgress(done={ITEMS + 2}, total={ITEMS + 2})"
    assert answer == f"{sum(number * number for number in range(ITEMS))} {whole}"
    nothing_left(somewhere)


@pytest.mark.parametrize("moment", ["finish.before_commit", "finish.committed"])
def test_a_worker_that_dies_at_a_commit_begins_the_next_step_once(on_rabbitmq: System, moment: str) -> None:
    on_rabbitmq.worker(app=APP, env={"HARELINE_FAILPOINTS": f"{moment}=kill@1"})
    on_rabbitmq.shell(APP).run("pair.start(path=log, order=1)")
    # Both were killed at it: dramatiq starts no other, and the line was written.
    on_rabbitmq.until(lambda: "reserve 1" in on_rabbitmq.ran())
    on_rabbitmq.until(lambda: not on_rabbitmq.workers[0].children())
    on_rabbitmq.worker(app=APP)
    on_rabbitmq.until(lambda: state(on_rabbitmq) == "completed")
    times = ran(on_rabbitmq)
    assert times == {"reserve 1": 2 if moment == "finish.before_commit" else 1, "release shelf-1": 1}
    assert on_rabbitmq.sql("SELECT count(*) FROM jobs") == [(2,)]
    nothing_left(on_rabbitmq)


def test_an_order_that_cannot_be_shipped_is_undone_and_an_approval_waits_for_a_person(somewhere: System) -> None:
    somewhere.worker(app=APP)
    sender = somewhere.shell(APP)
    sender.run("flow = order.start(path=log, order=7)\nsecond = approval.start(path=log, key='k')")
    somewhere.until(lambda: "refund payment-7" in somewhere.ran() and "ask" in somewhere.ran())
    asked = "from errors import FlowFailed\ntry: flow.result()\nexcept FlowFailed as error: print(error)"
    assert "has failed: step 'ship': RuntimeError: no van" in sender.run(asked)
    assert sender.run("print(second.status(), approval.start(path=log, key='k').id == second.id)") == "running True\n"
    assert sender.run("print(second.signal('approved', 'Ada'), second.signal('approved', 'Bob'))") == "True False\n"
    assert sender.run("print(second.result())") == "Ada\n"
    lines = [line for line in somewhere.ran() if line not in ("ask", "approved by Ada")]
    assert lines == ["reserve 7", "charge 7", "ship shelf-7", "refund payment-7", "release shelf-7"]


def test_a_cancelled_flow_stops_with_all_its_jobs_and_goes_on_when_it_is_retried(somewhere: System) -> None:
    somewhere.env["HARELINE_CANCEL_GRACE_S"] = "0.2"
    somewhere.worker(app=APP)
    sender = somewhere.shell(APP)
    sender.run("flow = stubborn.start(numbers=list(range(20)), path=log)")
    somewhere.until(lambda: len(somewhere.ran()) == 8, because="of its slots")
    assert sender.run("print(flow.cancel())") == "cancelling\n"
    somewhere.until(lambda: state(somewhere) == "cancelled")
    assert somewhere.states() == {"cancelled": 20}
    assert len(somewhere.ran()) == 8
    sender.run("flow.retry()")
    somewhere.until(lambda: len(somewhere.ran()) == 16, because="new jobs run")
    sender.run("flow.cancel()")
    somewhere.until(lambda: state(somewhere) == "cancelled")
    assert "ask" not in somewhere.ran()
    nothing_left(somewhere)

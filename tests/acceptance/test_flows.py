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


def test_many_items_are_joined_once_though_their_workers_are_killed(anywhere: System) -> None:
    first = anywhere.worker(app=APP, processes=2)
    sender = anywhere.shell(APP)
    sender.run(f"flow = counting.start(items={ITEMS}, path=log)")
    anywhere.until(lambda: len(anywhere.ran()) > ITEMS // 5)
    first.kill()
    second = anywhere.worker(app=APP, processes=2)
    anywhere.until(lambda: len(anywhere.ran()) > ITEMS // 2)
    second.kill()
    anywhere.worker(app=APP, processes=2)
    anywhere.until(lambda: state(anywhere) == "completed", 120)
    times = ran(anywhere)
    assert times.pop(f"joined {ITEMS}") == 1
    assert set(times) == {str(number) for number in range(ITEMS)}
    attempts = "SELECT count(*) FROM attempts a JOIN jobs j ON j.id = a.job_id WHERE j.actor = 'square'"
    assert sum(times.values()) <= anywhere.sql(attempts)[0][0], "an item ran twice only where that is recorded"
    assert anywhere.sql("SELECT count(*) FROM jobs WHERE actor = 'total'") == [(1,)]
    assert anywhere.sql("SELECT state, count(*) FROM flow_jobs GROUP BY state") == [("completed", ITEMS + 2)]
    answer = sender.run("print(flow.result(), flow.progress)").strip()
    whole = f"FlowProgress(done={ITEMS + 2}, total={ITEMS + 2})"
    assert answer == f"{sum(number * number for number in range(ITEMS))} {whole}"
    nothing_left(anywhere)


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


def test_an_order_that_cannot_be_shipped_is_undone_and_an_approval_waits_for_a_person(anywhere: System) -> None:
    anywhere.worker(app=APP)
    sender = anywhere.shell(APP)
    sender.run("flow = order.start(path=log, order=7)\nsecond = approval.start(path=log, key='k')")
    anywhere.until(lambda: "refund payment-7" in anywhere.ran() and "ask" in anywhere.ran())
    asked = "from errors import FlowFailed\ntry: flow.result()\nexcept FlowFailed as error: print(error)"
    assert "has failed: step 'ship': RuntimeError: no van" in sender.run(asked)
    assert sender.run("print(second.status(), approval.start(path=log, key='k').id == second.id)") == "running True\n"
    assert sender.run("print(second.signal('approved', 'Ada'), second.signal('approved', 'Bob'))") == "True False\n"
    assert sender.run("print(second.result())") == "Ada\n"
    lines = [line for line in anywhere.ran() if line not in ("ask", "approved by Ada")]
    assert lines == ["reserve 7", "charge 7", "ship shelf-7", "refund payment-7", "release shelf-7"]


def test_a_cancelled_flow_stops_with_all_its_jobs_and_goes_on_when_it_is_retried(anywhere: System) -> None:
    anywhere.env["HARELINE_CANCEL_GRACE_S"] = "0.2"
    anywhere.worker(app=APP)
    sender = anywhere.shell(APP)
    sender.run("flow = stubborn.start(numbers=list(range(20)), path=log)")
    anywhere.until(lambda: len(anywhere.ran()) == 8, because="of its slots")
    assert sender.run("print(flow.cancel())") == "cancelling\n"
    anywhere.until(lambda: state(anywhere) == "cancelled")
    assert anywhere.states() == {"cancelled": 20}
    assert len(anywhere.ran()) == 8
    sender.run("flow.retry()")
    anywhere.until(lambda: len(anywhere.ran()) == 16, because="new jobs run")
    sender.run("flow.cancel()")
    anywhere.until(lambda: state(anywhere) == "cancelled")
    assert "ask" not in anywhere.ran()
    nothing_left(anywhere)

"""Concurrency limits and sequences over several processes, by what the ledger says of attempts."""

import json
import time
from collections import Counter
from datetime import datetime
from itertools import pairwise
from typing import NamedTuple

from tests.acceptance.evidence import nothing_left, ran
from tests.acceptance.system import System

APP = "tests.acceptance.gated"
LEASE_S = 2.0


class Attempt(NamedTuple):
    began: float
    ended: float
    outcome: str
    args: list[object]


def attempts(system: System, actor: str) -> list[Attempt]:
    """Those that were not parked before they ran, in the order of their starts."""
    rows = system.sql(
        "SELECT a.started_at, a.finished_at, a.outcome, p.body FROM attempts a JOIN jobs j ON j.id = a.job_id "
        "JOIN payloads p ON p.job_id = a.job_id WHERE j.actor IN (:actor, 'later') AND a.outcome <> 'parked'",
        actor=actor,
    )
    made = (Attempt(moment(x), moment(y), how, json.loads(bytes(body))["args"]) for x, y, how, body in rows)
    return sorted(made, key=lambda attempt: attempt.began)


def moment(at: datetime | int) -> float:
    return at.timestamp() if isinstance(at, datetime) else at / 1_000_000


def running(some: list[Attempt], at: float) -> int:
    return sum(x.began <= at < x.ended for x in some)


def test_no_more_run_at_once_than_may_whoever_is_killed(somewhere: System) -> None:
    somewhere.shell(APP).run("broker.enqueue_many([share.message(log, str(n)) for n in range(90)])")
    first, _ = somewhere.worker(app=APP, processes=2), somewhere.worker(app=APP, processes=2)
    somewhere.until(lambda: len(somewhere.ran()) >= 20)
    first.kill()
    somewhere.worker(app=APP, processes=2)
    assert somewhere.finished(90) == {"completed": 90}
    assert set(ran(somewhere)) == {str(n) for n in range(90)}
    notes = Counter(somewhere.ran())
    # What was in a dead worker's hands and had not begun was no holder: it has left one note only, of its next attempt.
    found = [x for x in attempts(somewhere, "share") if x.outcome != "crashed" or notes[str(x.args[1])] > 1]
    assert max(running(found, x.began) for x in found) == 3
    assert somewhere.sql("SELECT count(*) FROM slots")[0][0] == 0
    assert somewhere.sql("SELECT count(*) FROM blocked")[0][0] == 0
    nothing_left(somewhere)


def test_the_slots_of_a_killed_worker_are_used_again_within_its_lease(somewhere: System) -> None:
    release = somewhere.folder / "release"
    shell, dies = somewhere.shell(APP), somewhere.worker(app=APP)
    send = f"broker.enqueue_many([keep.message(log, str(n), {str(release)!r}) for n in range(%d, %d)])"
    shell.run(send % (0, 3))
    somewhere.until(lambda: sorted(somewhere.ran()) == ["0", "1", "2"])
    somewhere.worker(app=APP)
    shell.run(send % (3, 6))
    somewhere.until(lambda: somewhere.sql("SELECT count(*) FROM blocked") == [(3,)])
    dies.kill()
    killed_at = time.monotonic()
    somewhere.until(lambda: len(somewhere.ran()) == 6)
    # Its last beat was a third of a lease before at most; the rescuer looks three times a lease; and then it is theirs.
    assert time.monotonic() - killed_at < LEASE_S * 4 / 3 + 2
    release.touch()
    assert somewhere.finished(6) == {"completed": 6}
    found = attempts(somewhere, "keep")
    assert max(running(found, x.began) for x in found) == 3
    nothing_left(somewhere)


def test_jobs_of_one_key_run_in_the_order_they_were_sent_whoever_fails_or_dies(somewhere: System) -> None:
    somewhere.shell(APP).run(
        "for n in range(15):\n"
        "    for account in 'ab':\n"
        "        later.send(log, n, account) if n % 4 == 1 else post.send(log, account, n)"
    )
    dies = somewhere.worker(app=APP)
    somewhere.worker(app=APP)
    somewhere.until(lambda: len(somewhere.ran()) >= 6)
    dies.kill()
    somewhere.worker(app=APP)
    assert somewhere.finished(30) == {"completed": 30}
    for account in "ab":
        mine = [line for line in somewhere.ran() if line.startswith(account)]
        first_seen = list(dict.fromkeys(mine))
        assert first_seen == [f"{account} {n}" for n in range(15)]
        spans = [x for x in attempts(somewhere, "post") if account in x.args]
        assert all(x.ended <= y.began for x, y in pairwise(spans)), "one at a time"
    assert somewhere.sql("SELECT count(*) FROM lines")[0][0] == 0
    nothing_left(somewhere)


def test_a_slot_goes_from_job_to_job_without_a_wait(somewhere: System) -> None:
    """By the finish that frees it: what is polled would take a fifth of a second each."""
    somewhere.env["HARELINE_QUEUES__OTHER__MAX_RUNNING"] = "1"
    somewhere.worker(processes=2)
    somewhere.run("broker.enqueue_many([record_other.message(log, n) for n in range(60)])")
    began = time.monotonic()
    assert somewhere.finished(60) == {"completed": 60}
    assert time.monotonic() - began < 60 * 0.1

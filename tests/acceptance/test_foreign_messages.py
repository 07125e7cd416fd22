"""What other programs put into our queues: run if it can be run, else kept as a dead letter that says why.

None of it may stop a worker thread, be lost, or hold up what comes after it.
"""

import json
import time
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.rabbit import Rabbit, settled
from tests.acceptance.system import System

THREADS = 8 + 8 + 1  # of app.py's queues together


@pytest.fixture
def system(unhurried: System) -> System:
    unhurried.env |= {"HARELINE_UNKNOWN_ACTOR_GRACE_S": "0"}
    return unhurried


def test_plain_dramatiq_messages_are_run(system: System, rabbit: Rabbit) -> None:
    system.worker()
    rabbit.wait_for_consumer("work")
    log = str(system.log)
    rabbit.publish("work", message("record", log, "of another queue", queue_name="stranger"))
    rabbit.publish("work", message("record", log, "eta of a wrong type", options={"eta": "soon"}))
    rabbit.publish("work", message("record", log, "no eta", options={"eta": None}))
    rabbit.publish("work", message("record", log, "long ago", options={"eta": 1}))
    rabbit.publish("work", message("record", log, "a large one", options={"padding": "x" * 2**20}))
    rabbit.publish("work", message("record", log, "without an id", message_id=""))
    rabbit.publish("work", message("record", log, "without an id", message_id=""))
    rabbit.publish("work", message("record", log, "of great priority"), priority=255)
    odd = {"max_age": "x", "time_limit": [], "pipe_target": 5}
    rabbit.publish("work", message("record", log, "odd options", options=odd))
    twice = message("record", log, "twice")
    rabbit.publish("work", twice, twice)
    due = time.time() + 2
    rabbit.publish("work", message("record_start", log, "eta", options={"eta": int(due * 1000)}))
    assert system.finished(11) == {"completed": 11}
    *ran, late = sorted(system.ran(), key=lambda line: line.startswith("eta "))
    assert Counter(ran) == Counter(
        [
            "of another queue",
            "eta of a wrong type",
            "no eta",
            "long ago",
            "a large one",
            "without an id",
            "without an id",
            "of great priority",
            "odd options",
            "twice",
        ]
    )
    assert float(late.removeprefix("eta ")) >= due
    assert system.sql("SELECT DISTINCT queue FROM jobs") == [("work",)]
    all_threads_live(system)
    settled(system, rabbit)


def test_what_cannot_be_run_is_a_dead_letter_with_its_reason(system: System, rabbit: Rabbit) -> None:
    system.worker()
    rabbit.wait_for_consumer("work")
    log, stray = str(system.log), str(uuid.uuid4())
    good = message("record", log, "never")
    malformed = [
        b"",
        b"{",
        b"null",
        b"[]",
        b"5",
        b"\xff\xfe",
        b'{"actor_name": "record"}',
        b"[" * 100_000,
        message("record", args=5),
        message("record", kwargs=[1]),
        message("record", options=[1]),
        message("record", message_id=5),
        message("record", log, "huge eta", options={"eta": 10**400}),
        message(5),
    ]
    forged = [
        {"hareline-job": "no-uuid", "hareline-ticket": 1},
        {"hareline-job": f"urn:uuid:{uuid.uuid4()}", "hareline-ticket": 1},
        {"hareline-job": 5, "hareline-ticket": 1},
        {"hareline-job": stray, "hareline-ticket": "1"},
        {"hareline-job": stray, "hareline-ticket": True},
        {"hareline-job": stray, "hareline-ticket": 2**40},
        {"hareline-job": stray},
    ]
    unknown = [message("nobody"), message("rec\x00ord"), message("\udc80"), message("")]
    rabbit.publish("work", *malformed, *unknown)
    for headers in forged:
        rabbit.publish("work", good, headers=headers)
    rabbit.publish("work", good, headers={"hareline-job": stray, "hareline-ticket": 1})
    rabbit.publish("work", message("fail", log, "throws", options={"throws": "Exception", "max_retries": 0}))
    rabbit.publish("work", message("fail", log, "odd retries", options={"max_retries": "many", "min_backoff": {}}))
    rabbit.publish("work", message("record", 1, 2, 3, 4))
    reasons = Counter(
        {
            "malformed": len(malformed) + len(forged),
            "unknown_actor": len(unknown),
            "unknown_origin": 1,
            "retries_exhausted": 2,
            "invalid_payload": 1,
        }
    )
    assert system.finished(sum(reasons.values())) == {"failed": sum(reasons.values())}
    assert system.ran() == ["throws", "odd retries"] or system.ran() == ["odd retries", "throws"]
    assert dict(system.sql("SELECT reason, count(*) FROM jobs GROUP BY reason")) == reasons
    all_threads_live(system)
    settled(system, rabbit)
    letters = {str(letter.headers["hareline-job"]): letter for letter in rabbit.letters("work.XQ")}
    assert Counter(letter.headers["hareline-reason"] for letter in letters.values()) == reasons
    assert all(letter.headers["hareline-error"] for letter in letters.values())
    assert letters[stray].headers["hareline-reason"] == "unknown_origin"
    assert letters[stray].body == good  # as it was sent
    assert {letter.body for letter in letters.values()} >= set(malformed)


def test_a_forged_message_for_a_job_that_exists_changes_nothing(system: System, rabbit: Rabbit) -> None:
    system.worker()
    system.run("record.send(log, 'once')")
    system.finished(1)
    [(job,)] = system.sql("SELECT CAST(id AS text) FROM jobs")
    for ticket in (0, 1, 2, 1_000_000):
        headers = {"hareline-job": job, "hareline-ticket": ticket}
        rabbit.publish("work", message("record", str(system.log), "again"), headers=headers)
    all_threads_live(system)
    assert system.ran()[0] == "once"
    assert "again" not in system.ran()
    settled(system, rabbit)


def message(actor: object, *arguments: object, **fields: Any) -> bytes:
    """A Dramatiq message as any client might write it."""
    plain = {
        "queue_name": "work",
        "actor_name": actor,
        "args": arguments,
        "kwargs": {},
        "options": {},
        "message_id": str(uuid.uuid4()),
        "message_timestamp": int(time.time() * 1000),
    }
    return json.dumps(plain | fields).encode()


def all_threads_live(system: System) -> None:
    """Every worker thread runs something at the same time."""
    before = system.states()
    release = Path(system.folder / "all-threads")
    system.run(
        "for queue, count in {'work': 8, 'other': 8, 'narrow': 1}.items():\n"
        "    for n in range(count):\n"
        f"        broker.enqueue(hold.message(log, queue, {str(release)!r}).copy(queue_name=queue))"
    )
    system.until(lambda: system.states().get("active") == THREADS, because="for every thread to run something")
    starts = [f"start {queue}" for queue in ("work", "other", "narrow")]
    system.until(
        lambda: sum(line in starts for line in system.ran()) == THREADS, because="for every thread to run something"
    )
    release.touch()
    system.until(
        lambda: system.states().get("completed", 0) == before.get("completed", 0) + THREADS,
        because="for what kept the threads busy",
    )
    said = [line for worker in system.workers for line in worker.lines if "Exception in thread" in line]
    assert not said

"""What a running job can say and hear."""

import json
import time
from collections.abc import Iterator

import pytest

from control import Control
from control.jobs import cancel
from tests.acceptance.evidence import Job, job, nothing_left
from tests.acceptance.system import System

APP = "tests.acceptance.talking"


@pytest.fixture
def control(anywhere: System) -> Iterator[Control]:
    control = Control(anywhere.database_url, "rabbitmq" if anywhere.broker_url else "embedded")
    yield control
    control.close()


def test_a_job_knows_itself_in_functions_tasks_and_threads_of_asyncio(anywhere: System) -> None:
    anywhere.worker(app=APP)
    shell = anywhere.shell(APP)
    message_id = shell.run("print(introduce.send_with_options(args=(log, 'sync'), delay=300).message_id)").strip()
    anywhere.finished(1)
    id = job(anywhere, "sync").id
    [first, second] = map(json.loads, anywhere.ran())
    assert first == [id, message_id, "introduce", "work", 1, 0, 0.3]
    assert second[:6] == [id, message_id, "introduce", "work", 2, 1]
    assert second[6] > 0.3, "a retry is due later"

    message_id = shell.run("print(introduce_later.send(log, 'async').message_id)").strip()
    anywhere.finished(2)
    told = [job(anywhere, "async").id, message_id, "introduce_later", "work", 1, 0]
    assert [json.loads(line)[:6] for line in anywhere.ran()[2:]] == [told, told]


def stop(system: System, control: Control, line: str) -> Job:
    """Ask the job with this line to stop once it runs; what became of it."""
    system.until(lambda: f"start {line}" in system.ran())
    assert cancel(control, job(system, line).id, by="a test") == "requested"
    system.finished(1)
    return job(system, line)


def test_running_jobs_stop_when_they_are_asked_to(anywhere: System, control: Control) -> None:
    anywhere.env["WORKER_QUEUE_STALLED_INTERVAL"] = "120000"  # no beat within this test
    anywhere.worker(app=APP)
    shell = anywhere.shell(APP)

    shell.run("ask.send(log, 'asks')")
    anywhere.until(lambda: "start asks" in anywhere.ran())
    asked = time.monotonic()
    found = stop(anywhere, control, "asks")
    assert time.monotonic() - asked < 10, "a second and what a busy machine adds"
    assert (found.state, found.outcomes, found.attempts) == ("cancelled", ["cancelled"], 0)
    assert found.errors == ["errors.Cancelled: the job was asked to stop"]

    shell.run("ask_nothing.send(log, 'does not ask')")
    found = stop(anywhere, control, "does not ask")
    assert (found.state, found.outcomes, found.attempts) == ("cancelled", ["cancelled"], 0)
    assert anywhere.ran()[-1] == "cleaned up does not ask"

    shell.run("wait_for_ever.send(log, 'async')")
    found = stop(anywhere, control, "async")
    assert (found.state, found.outcomes, found.attempts) == ("cancelled", ["cancelled"], 0)
    assert anywhere.ran()[-1] == "cleaned up async True"

    shell.run("wait_for_ever.send(log, 'async, slow to end', 1.5)")
    found = stop(anywhere, control, "async, slow to end")
    assert (found.state, found.outcomes, found.attempts) == ("cancelled", ["cancelled"], 0)

    shell.run("fail_then_ask.send(log, 'second attempt')")
    found = stop(anywhere, control, "second attempt")
    assert (found.state, found.outcomes, found.attempts) == ("cancelled", ["retrying", "cancelled"], 1)
    nothing_left(anywhere)


def test_who_ends_by_itself_is_not_cancelled(anywhere: System, control: Control) -> None:
    anywhere.worker(app=APP)
    shell = anywhere.shell(APP)
    shell.run("return_when_asked.send(log, 'returns')")
    found = stop(anywhere, control, "returns")
    assert (found.state, found.outcomes, found.attempts) == ("completed", ["completed"], 1)

    shell.run("cancel_itself.send(log, 'nobody asked')")
    anywhere.finished(2)
    found = job(anywhere, "nobody asked")
    assert (found.state, found.outcomes, found.reason) == ("failed", ["failed"], "retries_exhausted")
    assert found.errors == ["errors.Cancelled: I would rather not"]
    nothing_left(anywhere)

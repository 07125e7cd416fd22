"""What a running job can say and hear."""

import json
import signal
import time
from collections.abc import Iterator

import pytest

from control import Control
from control.jobs import cancel
from tests.acceptance.evidence import Job, job, nothing_left
from tests.acceptance.nursery import nursery
from tests.acceptance.system import System

APP = "tests.acceptance.talking"


@pytest.fixture
def control(somewhere: System) -> Iterator[Control]:
    control = Control(somewhere.database_url, "rabbitmq" if somewhere.broker_url else "embedded")
    yield control
    control.close()


def test_a_job_knows_itself_in_functions_tasks_and_threads_of_asyncio(somewhere: System) -> None:
    somewhere.worker(app=APP)
    shell = somewhere.shell(APP)
    message_id = shell.run("print(introduce.send_with_options(args=(log, 'sync'), delay=300).message_id)").strip()
    somewhere.finished(1)
    id = job(somewhere, "sync").id
    [first, second] = map(json.loads, somewhere.ran())
    assert first == [id, message_id, "introduce", "work", 1, 0, 0.3]
    assert second[:6] == [id, message_id, "introduce", "work", 2, 1]
    assert second[6] > 0.3, "a retry is due later"

    message_id = shell.run("print(introduce_later.send(log, 'async').message_id)").strip()
    somewhere.finished(2)
    told = [job(somewhere, "async").id, message_id, "introduce_later", "work", 1, 0]
    assert [json.loads(line)[:6] for line in somewhere.ran()[2:]] == [told, told]


def stop(system: System, control: Control, line: str) -> Job:
    """Ask the job with this line to stop once it runs; what became of it."""
    system.until(lambda: f"start {line}" in system.ran())
    assert cancel(control, job(system, line).id, by="a test") == "requested"
    system.finished(1)
    return job(system, line)


def test_running_jobs_stop_when_they_are_asked_to(somewhere: System, control: Control) -> None:
    somewhere.env["WORKER_QUEUE_STALLED_INTERVAL"] = "120000"  # no beat within this test
    somewhere.worker(app=APP)
    shell = somewhere.shell(APP)

    shell.run("ask.send(log, 'asks')")
    somewhere.until(lambda: "start asks" in somewhere.ran())
    asked = time.monotonic()
    found = stop(somewhere, control, "asks")
    assert time.monotonic() - asked < 10, "a second and what a busy machine adds"
    assert (found.state, found.outcomes, found.attempts) == ("cancelled", ["cancelled"], 0)
    assert found.errors == ["errors.Cancelled: the job was asked to stop"]

    shell.run("ask_nothing.send(log, 'does not ask')")
    found = stop(somewhere, control, "does not ask")
    assert (found.state, found.outcomes, found.attempts) == ("cancelled", ["cancelled"], 0)
    assert somewhere.ran()[-1] == "cleaned up does not ask"

    shell.run("wait_for_ever.send(log, 'async')")
    found = stop(somewhere, control, "async")
    assert (found.state, found.outcomes, found.attempts) == ("cancelled", ["cancelled"], 0)
    assert somewhere.ran()[-1] == "cleaned up async True"

    shell.run("wait_for_ever.send(log, 'async, slow to end', 1.5)")
    found = stop(somewhere, control, "async, slow to end")
    assert (found.state, found.outcomes, found.attempts) == ("cancelled", ["cancelled"], 0)

    shell.run("fail_then_ask.send(log, 'second attempt')")
    found = stop(somewhere, control, "second attempt")
    assert (found.state, found.outcomes, found.attempts) == ("cancelled", ["retrying", "cancelled"], 1)
    nothing_left(somewhere)


def test_who_ends_by_itself_is_not_cancelled(somewhere: System, control: Control) -> None:
    somewhere.worker(app=APP)
    shell = somewhere.shell(APP)
    shell.run("return_when_asked.send(log, 'returns')")
    found = stop(somewhere, control, "returns")
    assert (found.state, found.outcomes, found.attempts) == ("completed", ["completed"], 1)

    shell.run("cancel_itself.send(log, 'nobody asked')")
    somewhere.finished(2)
    found = job(somewhere, "nobody asked")
    assert (found.state, found.outcomes, found.reason) == ("failed", ["failed"], "retries_exhausted")
    assert found.errors == ["errors.Cancelled: I would rather not"]
    nothing_left(somewhere)


def count_writes(system: System) -> None:
    """From now on the table ``written`` has a row for each time somebody's progress is written."""
    system.sql("CREATE TABLE written (done float)")
    if system.database_url.startswith("sqlite"):
        system.sql("CREATE TRIGGER count AFTER INSERT ON progress BEGIN INSERT INTO written VALUES (new.done); END")
        return
    system.sql(
        "CREATE FUNCTION count_it() RETURNS trigger LANGUAGE plpgsql"
        " AS 'BEGIN INSERT INTO written VALUES (new.done); RETURN new; END'"
    )
    system.sql("CREATE TRIGGER count AFTER INSERT OR UPDATE ON progress FOR EACH ROW EXECUTE FUNCTION count_it()")


def test_progress_is_seen_while_the_job_runs_and_ten_thousand_reports_are_a_handful_of_writes(
    somewhere: System,
) -> None:
    count_writes(somewhere)
    somewhere.worker(app=APP)
    release = somewhere.folder / "release"
    began = time.monotonic()
    somewhere.shell(APP).run(f"report_often.send(log, 'often', {str(release)!r})")

    def progress() -> tuple[float, float | None, str] | None:
        view = somewhere.queries.job(job(somewhere, "often").id)
        found = view.progress if view else None
        return (found.done, found.total, found.note) if found else None

    somewhere.until(lambda: "reported often" in somewhere.ran())
    somewhere.until(lambda: progress() == (10_000, 20_000, "often"), because="the last of a burst is written, too")
    assert job(somewhere, "often").state == "active"
    shown = hareline(somewhere, "jobs", "show", job(somewhere, "often").id)
    assert "10000 of 20000 (50%) often" in shown
    told = json.loads(hareline(somewhere, "jobs", "show", job(somewhere, "often").id, "--json"))["progress"]
    assert (told["done"], told["total"], told["note"]) == (10_000, 20_000, "often")

    release.touch()
    somewhere.finished(1)
    took = time.monotonic() - began
    assert progress() == (20_000, 20_000, "done")
    written = somewhere.sql("SELECT done FROM written")
    assert 3 <= len(written) <= took + 2, "one a second, and the last"
    nothing_left(somewhere)


def test_a_job_whose_worker_was_killed_goes_on_from_its_checkpoint(somewhere: System) -> None:
    worker = somewhere.worker(app=APP)
    release = somewhere.folder / "release"
    somewhere.shell(APP).run(f"count.send(log, 'counts', {str(release)!r})")
    somewhere.until(lambda: "5" in somewhere.ran())
    shown = hareline(somewhere, "jobs", "show", job(somewhere, "counts").id)
    assert "checkpoint  13 bytes" in shown
    worker.kill()
    somewhere.worker(app=APP)
    assert somewhere.finished(1) == {"completed": 1}
    assert somewhere.ran() == ["from 0", *"12345", "from 5", "6", "7", "8", "9", "10"]
    assert job(somewhere, "counts").outcomes == ["crashed", "completed"]
    nothing_left(somewhere)


@pytest.mark.parametrize(("step", "kept"), [("before_commit", 2), ("committed", 3)])
def test_a_checkpoint_that_was_committed_is_found_and_one_that_was_not_is_not(
    somewhere: System, step: str, kept: int
) -> None:
    worker = somewhere.worker(app=APP, env={"HARELINE_FAILPOINTS": f"checkpoint.{step}=kill@3"})
    release = somewhere.folder / "release"
    release.touch()
    somewhere.shell(APP).run(f"count.send(log, 'counts', {str(release)!r})")
    somewhere.until(lambda: not worker.children(), because="it kills itself at the third checkpoint")
    worker.kill()
    somewhere.worker(app=APP)
    assert somewhere.finished(1) == {"completed": 1}
    assert somewhere.ran() == ["from 0", "1", "2", f"from {kept}", *map(str, range(kept + 1, 11))]
    nothing_left(somewhere)


def test_a_retry_goes_on_from_its_checkpoint_and_async_actors_have_one_too(somewhere: System) -> None:
    somewhere.worker(app=APP)
    shell = somewhere.shell(APP)
    shell.run("count.send(log, 'fails', '', 'fails')")
    assert somewhere.finished(1) == {"completed": 1}
    assert somewhere.ran() == ["from 0", *"12345", "from 5", "6", "7", "8", "9", "10"]
    shell.run("count_later.send(log, 'async')")
    assert somewhere.finished(2) == {"completed": 2}
    assert somewhere.ran()[-1] == "[1]"
    nothing_left(somewhere)


def test_a_worker_that_stalled_past_its_lease_cannot_overwrite_a_checkpoint(somewhere: System) -> None:
    release = somewhere.folder / "release"
    stalled = somewhere.worker(app=APP)
    somewhere.shell(APP).run(f"keep_late.send(log, 'late', {str(release)!r})")
    somewhere.until(somewhere.ran)
    stalled.freeze(somewhere.database_url)
    rescuer = somewhere.worker(app=APP)
    somewhere.until(lambda: len(somewhere.ran()) == 2, because="waiting for the other worker to take the job")
    release.touch()
    somewhere.until(lambda: job(somewhere, "late").state == "completed")
    rescuer.stop()
    before = somewhere.sql("SELECT epoch, at FROM checkpoints")
    stalled.signal(signal.SIGCONT)
    stalled.wait_line("errors.LeaseLost: checkpoint of <CurrentJob")
    assert somewhere.sql("SELECT epoch, at FROM checkpoints") == before
    nothing_left(somewhere)


def hareline(system: System, *arguments: str) -> str:
    """What the command line prints."""
    done = nursery().run(["-m", "cli", *arguments], env=system.env, cwd=system.folder)
    assert done.returncode == 0, done.stderr
    return done.stdout

"""Workers that stop without dying: fenced when others live on, left alone when everything slept."""

import signal
import time

from tests.acceptance.evidence import job, jobs, nothing_left, ran
from tests.acceptance.system import System

LEASE_S = 2.0


def test_a_worker_that_stalled_past_its_lease_is_fenced_and_goes_on_under_a_new_id(anywhere: System) -> None:
    release = anywhere.folder / "release"
    stalled = anywhere.worker()
    anywhere.run(f"hold.send(log, 'one', {str(release)!r})")
    anywhere.until(anywhere.ran)
    stalled.freeze(anywhere.database_url)
    rescuer = anywhere.worker()
    anywhere.until(lambda: ran(anywhere)["start one"] == 2, because="waiting for the other worker to take the job")
    release.touch()
    anywhere.until(lambda: job(anywhere, "one").state == "completed")
    rescuer.stop()
    before = job(anywhere, "one")

    stalled.signal(signal.SIGCONT)
    stalled.wait_line("after this worker's lease on it was lost")
    stalled.wait_line("was fenced")
    assert job(anywhere, "one") == before, "its late finish changed nothing"
    assert before.outcomes == ["crashed", "completed"]
    assert ran(anywhere) == {"start one": 2, "end one": 2}

    anywhere.run("record.send(log, 'two')")
    assert anywhere.finished(2) == {"completed": 2}
    workers = {row[0]: row[1] for row in anywhere.sql("SELECT id, state FROM workers")}
    [again] = job(anywhere, "two").workers
    assert workers[before.workers[0]] == "dead"
    assert again not in before.workers
    assert workers[again] == "running"
    nothing_left(anywhere)


def test_a_machine_that_slept_judges_nobody(anywhere: System) -> None:
    release = anywhere.folder / "release"
    workers = [anywhere.worker(), anywhere.worker()]
    anywhere.run(f"broker.enqueue_many([hold.message(log, str(n), {str(release)!r}) for n in range(16)])")
    anywhere.until(lambda: len(anywhere.ran()) == 16)
    known = anywhere.sql("SELECT id, state FROM workers ORDER BY id")
    for worker in workers:
        worker.freeze(anywhere.database_url)
    time.sleep(2 * LEASE_S)  # the night
    for worker in workers:
        worker.signal(signal.SIGCONT)
    since = anywhere.sql("SELECT max(heartbeat_at) FROM workers")
    anywhere.until(
        lambda: anywhere.sql("SELECT min(heartbeat_at) FROM workers")[0] > since[0], because="waiting for all to beat"
    )
    anywhere.run("record.send(log, 'morning')\nrecord_other.send(log, 'morning')")
    time.sleep(1.5 * LEASE_S)  # whoever judges does it within this time
    release.touch()
    assert anywhere.finished(18) == {"completed": 18}
    assert anywhere.sql("SELECT id, state FROM workers ORDER BY id") == known
    assert all((found.outcomes, found.crashes) == (["completed"], 0) for found in jobs(anywhere))
    assert all(ran(anywhere)[f"start {number}"] == 1 for number in range(16))
    nothing_left(anywhere)

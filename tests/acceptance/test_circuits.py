"""An outage of what jobs call, with real processes: bounded calls, no attempts spent, everything done afterwards."""

from collections import Counter

from tests.acceptance.circuited import OF
from tests.acceptance.evidence import jobs, nothing_left, ran
from tests.acceptance.system import System

APP = "tests.acceptance.circuited"
JOBS = 1_000
#: Slots of the queue in two processes.
SLOTS = 16


def openings(system: System) -> int:
    return len(system.sql("SELECT 1 FROM journal WHERE event = 'circuit opened'"))


def test_an_outage_costs_few_calls_and_no_attempts_even_when_its_probing_worker_is_killed(somewhere: System) -> None:
    somewhere.shell(APP).run(f"broker.enqueue_many([call.message(log, str(n)) for n in range({JOBS})])")
    workers = {worker.process.pid: worker for worker in (somewhere.worker(app=APP), somewhere.worker(app=APP))}
    somewhere.until(lambda: openings(somewhere) >= 2, because="for its first probe to fail")
    met = "SELECT count(DISTINCT job_id) FROM attempts"
    somewhere.until(lambda: somewhere.sql(met) == [(JOBS,)], because="for every job to meet the open circuit")

    (somewhere.folder / "hang").touch()
    somewhere.until(lambda: any(line.startswith("hangs") for line in somewhere.ran()), because="for a probe that hangs")
    [probing] = [line for line in somewhere.ran() if line.startswith("hangs")]
    (somewhere.folder / "hang").unlink()
    (somewhere.folder / "up").touch()
    workers[int(probing.split()[-1])].kill()
    assert somewhere.finished(JOBS) == {"completed": JOBS}

    lines = ran(somewhere)
    assert all(lines[f"done {n}"] == 1 for n in range(JOBS))
    failed = sum(count for line, count in lines.items() if line.startswith("failed"))
    opened = openings(somewhere)
    assert failed <= OF - 1 + SLOTS + (opened - 1), "until it opened, those under way then, and one probe per opening"
    found = jobs(somewhere)
    assert sum(job.attempts for job in found) == JOBS + failed, "every other attempt cost none"
    put_off = Counter(job.outcomes.count("parked") for job in found)
    assert max(put_off) <= opened + 1, "about once for each opening"
    assert somewhere.sql("SELECT until FROM circuits") == [(None,)]
    assert somewhere.sql("SELECT count(*) FROM deferrals") == [(0,)]
    nothing_left(somewhere)

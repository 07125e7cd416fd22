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


def test_an_outage_costs_few_calls_and_no_attempts_even_when_its_probing_worker_is_killed(anywhere: System) -> None:
    anywhere.shell(APP).run(f"broker.enqueue_many([call.message(log, str(n)) for n in range({JOBS})])")
    workers = {worker.process.pid: worker for worker in (anywhere.worker(app=APP), anywhere.worker(app=APP))}
    anywhere.until(lambda: openings(anywhere) >= 2, because="for its first probe to fail")
    met = "SELECT count(DISTINCT job_id) FROM attempts"
    anywhere.until(lambda: anywhere.sql(met) == [(JOBS,)], because="for every job to meet the open circuit")

    (anywhere.folder / "hang").touch()
    anywhere.until(lambda: any(line.startswith("hangs") for line in anywhere.ran()), because="for a probe that hangs")
    [probing] = [line for line in anywhere.ran() if line.startswith("hangs")]
    (anywhere.folder / "hang").unlink()
    (anywhere.folder / "up").touch()
    workers[int(probing.split()[-1])].kill()
    assert anywhere.finished(JOBS) == {"completed": JOBS}

    lines = ran(anywhere)
    assert all(lines[f"done {n}"] == 1 for n in range(JOBS))
    failed = sum(count for line, count in lines.items() if line.startswith("failed"))
    opened = openings(anywhere)
    assert failed <= OF - 1 + SLOTS + (opened - 1), "until it opened, those under way then, and one probe per opening"
    found = jobs(anywhere)
    assert sum(job.attempts for job in found) == JOBS + failed, "every other attempt cost none"
    put_off = Counter(job.outcomes.count("parked") for job in found)
    assert max(put_off) <= opened + 1, "about once for each opening"
    assert anywhere.sql("SELECT until FROM circuits") == [(None,)]
    assert anywhere.sql("SELECT count(*) FROM deferrals") == [(0,)]
    nothing_left(anywhere)

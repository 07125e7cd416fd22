"""Producers killed around the commit of their own transaction: no job, or exactly one."""

import signal

from tests.acceptance.evidence import nothing_left, ran
from tests.acceptance.system import System

PSYCOPG = "import psycopg\nfrom broker import transactional\nconnection = psycopg.connect(settings.database_url)\n"
SESSION = (
    "from sqlalchemy import create_engine\nfrom sqlalchemy.orm import Session\nfrom broker import transactional\n"
    "url = settings.database_url.replace('postgresql:', 'postgresql+psycopg:')\nsession = Session(create_engine(url))\n"
)
KILL = "os.kill(os.getpid(), signal.SIGKILL)\n"


def test_a_producer_killed_around_its_commit_leaves_no_job_or_one(on_rabbitmq: System) -> None:
    system = on_rabbitmq
    system.env["HARELINE_PUBLISH_AFTER_S"] = "3600"  # whoever finds these jobs does not go by it
    system.worker()

    def killed(code: str, **env: str) -> None:
        assert system.run(code, env=env, check=False).returncode == -signal.SIGKILL

    killed(f"{PSYCOPG}with transactional(connection):\n    record.send(log, 'undone')\n    {KILL}")
    killed(
        f"{PSYCOPG}with transactional(connection):\n    record_start.send(log, 'kept')\nconnection.commit()\n"
        f"note(log, f'committed {{time.time()}}')\n{KILL}"
    )
    assert system.finished(1) == {"completed": 1}
    lines = {line.partition(" ")[0]: float(line.partition(" ")[2]) for line in system.ran()}
    assert lines["kept"] - lines["committed"] < 2, "0.2 s, on a machine that has nothing else to do"
    killed(
        f"{SESSION}with transactional(session):\n    record.send(log, 'seen')\nsession.commit()\ntime.sleep(60)",
        HARELINE_FAILPOINTS="transactional.committed=kill",
    )
    assert system.finished(2) == {"completed": 2}
    assert ran(system)["seen"] == 1
    assert "undone" not in system.log.read_text()
    nothing_left(system)


def test_jobs_of_a_committed_session_are_published_by_its_process(on_rabbitmq: System) -> None:
    on_rabbitmq.env["HARELINE_PUBLISH_AFTER_S"] = "3600"
    on_rabbitmq.run(
        f"{SESSION}with transactional(session):\n    for n in range(10): record.send(log, str(n))\nsession.commit()\n"
        "with transactional(session): record.send(log, 'undone')\nsession.rollback()"
    )
    on_rabbitmq.until(lambda: on_rabbitmq.sql("SELECT count(*) FROM tickets") == [(0,)], because="no relay runs")
    on_rabbitmq.worker()
    assert on_rabbitmq.finished(10) == {"completed": 10}
    assert ran(on_rabbitmq) == {str(n): 1 for n in range(10)}
    nothing_left(on_rabbitmq)


def test_handles_ask_for_jobs_that_real_workers_run(somewhere: System) -> None:
    somewhere.worker(env={"HARELINE_CANCEL_GRACE_S": "0.1"})
    release = somewhere.folder / "release"
    printed = somewhere.run(
        "from errors import JobCancelled, JobFailed\n"
        "from middleware.handles import Job\n"
        "added, divided = add.send(2, 3), divide.send(1, 0)\n"
        f"held = hold.send(log, 'held', {str(release)!r})\n"
        "print(added.result(60_000))\n"
        "try: divided.result(60_000)\n"
        "except JobFailed as error: print(error.error)\n"
        "while held.status().state != 'active': time.sleep(0.02)\n"
        "print(Job(held.job_id).cancel())\n"
        "try: held.result(60_000)\n"
        "except JobCancelled as error: print(type(error).__name__)\n"
    ).stdout
    assert printed.splitlines() == [
        "5",
        "ZeroDivisionError: division by zero",
        "requested",
        "JobCancelled",
    ]
    somewhere.finished(3)
    nothing_left(somewhere)

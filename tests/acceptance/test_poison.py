"""Jobs whose worker dies: the guilty are found, the innocent are not charged, deploys are no crimes."""

import signal

from tests.acceptance.evidence import job, jobs, nothing_left, ran
from tests.acceptance.system import System


def test_a_job_that_kills_its_process_is_quarantined_and_no_neighbour_is_charged(anywhere: System) -> None:
    anywhere.env["WORKER_QUEUE_STALLED_INTERVAL"] = "1000"
    anywhere.env["HARELINE_QUEUES__WORK__CONCURRENCY"] = "4"  # suspects run one at a time: the fewer the sooner
    anywhere.run(
        "neighbours = [nap.message(log, str(n), 0.005) for n in range(200)]\n"
        "broker.enqueue_many(neighbours[:100])\n"
        "die.send(log, 'poison')\n"
        "broker.enqueue_many(neighbours[100:])"
    )
    deaths = 0
    anywhere.worker()

    def quarantined() -> bool:
        nonlocal deaths
        joined = len(anywhere.sql("SELECT id FROM workers"))
        if joined == len(anywhere.workers) and not anywhere.workers[-1].children():
            deaths += 1
            anywhere.workers[-1].kill()  # dramatiq's main process would take a second to see it
            anywhere.worker(ready=False)  # as a supervisor would
        return job(anywhere, "poison").state == "failed"

    anywhere.until(quarantined, 60)
    assert deaths == 4, "the first death makes it a suspect, the next three are charged"
    assert anywhere.finished(201) == {"completed": 200, "failed": 1}

    poison = job(anywhere, "poison")
    assert (poison.reason, poison.charges, poison.outcomes) == ("poison", 3, ["crashed"] * 4)
    assert ran(anywhere)["poison"] == 4
    for neighbour in jobs(anywhere):
        if neighbour != poison:
            assert (neighbour.charges, neighbour.outcomes.count("completed")) == (0, 1), neighbour
            assert 1 <= ran(anywhere)[neighbour.line] <= 1 + neighbour.crashes, neighbour
    nothing_left(anywhere)


def test_a_long_job_killed_by_three_deploys_completes_in_the_fourth(anywhere: System) -> None:
    anywhere.env["WORKER_QUEUE_STALLED_INTERVAL"] = "1000"
    anywhere.env["HARELINE_SHUTDOWN_GRACE_S"] = "60"
    release = anywhere.folder / "release"
    anywhere.run(f"hold.send(log, 'long', {str(release)!r})")
    for deploy in range(1, 4):
        worker = anywhere.worker()
        anywhere.until(lambda deploy=deploy: ran(anywhere)["start long"] == deploy)  # type: ignore[misc]
        worker.process.send_signal(signal.SIGTERM)
        anywhere.until(lambda: anywhere.sql("SELECT 1 FROM workers WHERE state = 'stopping'"))
        worker.kill()
    release.touch()
    anywhere.worker()
    assert anywhere.finished(1) == {"completed": 1}
    found = job(anywhere, "long")
    assert (found.outcomes, found.crashes, found.charges) == (["completed"], 0, 0)
    assert ran(anywhere) == {"start long": 4, "end long": 1}
    nothing_left(anywhere)

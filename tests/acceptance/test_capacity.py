"""What ``dramatiq -Q`` and ``-p`` ask for, and how many jobs of a queue run at once."""

import itertools
import json

from tests.acceptance.evidence import nothing_left, ran
from tests.acceptance.system import System


def test_a_worker_of_one_queue_consumes_no_other(anywhere: System) -> None:
    anywhere.worker(args=("-Q", "other"))
    anywhere.run("for n in range(20):\n    record.send(log, f'work {n}')\n    record_other.send(log, f'other {n}')")
    anywhere.until(lambda: anywhere.states() == {"completed": 20, "waiting": 20})
    assert ran(anywhere) == {f"other {n}": 1 for n in range(20)}
    [(queues, threads)] = anywhere.sql("SELECT queues, threads FROM workers")
    assert (json.loads(str(queues)), threads) == (["other"], 8)
    anywhere.worker(args=("-Q", "work"))
    assert anywhere.finished(40) == {"completed": 40}
    nothing_left(anywhere)


def test_every_process_runs_as_many_jobs_as_its_queues_allow_and_no_more(anywhere: System) -> None:
    release = anywhere.folder / "release"
    anywhere.run(
        f"broker.enqueue_many([hold.message(log, f'{{n}}', {str(release)!r}) for n in range(30)])\n"
        "broker.enqueue_many([record_other.message(log, f'other {n}') for n in range(50)])"
    )
    worker = anywhere.worker(processes=2)
    everything = {"active": 16, "waiting": 14, "completed": 50}
    anywhere.until(
        lambda: anywhere.states() == everything, because="two processes of 8 slots; no queue starves another"
    )
    anywhere.until(lambda: len(anywhere.ran()) >= 16 + 50, because="of the last ones that began")
    assert len(anywhere.ran()) == 16 + 50
    assert len(worker.children()) >= 2
    assert anywhere.sql("SELECT threads FROM workers") == [(17,)] * 2
    per_worker = anywhere.sql("SELECT count(*) FROM claims GROUP BY worker_id")
    assert per_worker == [(8,), (8,)]
    release.touch()
    assert anywhere.finished(80) == {"completed": 80}
    nothing_left(anywhere)


def test_no_job_waits_for_a_busy_process_while_another_has_a_free_slot(anywhere: System) -> None:
    """Short jobs are claimed ahead, and RabbitMQ entrusts messages to whoever works through them quickly.  Here a
    process that did so is then stuck in long ones."""
    anywhere.worker()
    anywhere.run("broker.enqueue_many([record.message(log, f'short {n}') for n in range(400)])")
    assert anywhere.finished(400) == {"completed": 400}
    release = anywhere.folder / "release"
    anywhere.run(
        f"broker.enqueue_many([hold.message(log, f'{{n}}', {str(release)!r}) for n in range(8)])\n"
        "broker.enqueue_many([record.message(log, f'late {n}') for n in range(20)])"
    )
    anywhere.until(lambda: len(anywhere.ran()) == 408, because="all slots are taken by the long ones")
    anywhere.worker()
    anywhere.until(lambda: anywhere.states() == {"active": 8, "completed": 420}, because="the other process is free")
    release.touch()
    assert anywhere.finished(428) == {"completed": 428}
    nothing_left(anywhere)


def test_a_queue_of_concurrency_one_never_overlaps_itself(anywhere: System) -> None:
    anywhere.worker()
    anywhere.run("broker.enqueue_many([span_narrow.message(log, str(n), 0.005) for n in range(60)])")
    assert anywhere.finished(60) == {"completed": 60}
    spans = sorted(tuple(map(float, line.split()[1:])) for line in anywhere.ran())
    assert len(spans) == 60
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))
    nothing_left(anywhere)

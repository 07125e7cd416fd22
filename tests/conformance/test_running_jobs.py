"""What a running job knows, says, and leaves to its next attempt."""

import asyncio

from middleware.current import current_job
from tests.conformance.system import System


def test_a_job_knows_itself(system: System) -> None:
    @system.actor(max_retries=1, min_backoff=10)
    async def introduce() -> None:
        job = current_job()
        system.note((job.id, job.message_id, job.actor, job.queue, job.attempt))
        assert await asyncio.to_thread(lambda: current_job().id) == job.id
        if job.attempt == 1:
            raise RuntimeError("once more")

    message = introduce.send()
    system.work()
    assert system.finished(1) == {"completed": 1}
    known = (system.job(message).id, message.message_id, "introduce", "work")
    assert system.notes == [(*known, 1), (*known, 2)]


def test_progress_is_seen_while_the_job_runs_and_its_last_word_stays(system: System) -> None:
    gate = system.gate()

    @system.actor()
    def report() -> None:
        for n in range(1_000):
            current_job().progress(n + 1, 2_000, "half way")
        gate.wait(30)
        current_job().progress(2_000, 2_000, "done")

    message = report.send()
    system.work()

    def told() -> tuple[float, float | None, str] | None:
        found = system.job(message).progress
        return (found.done, found.total, found.note) if found else None

    system.until(lambda: told() == (1_000, 2_000, "half way"))
    assert system.state(message) == "active"
    gate.set()
    assert system.finished(1) == {"completed": 1}
    assert told() == (2_000, 2_000, "done")


def test_a_retry_goes_on_from_its_checkpoint(system: System) -> None:
    @system.actor(max_retries=2, min_backoff=10)
    def count() -> None:
        job = current_job()
        start = job.state["counted"] if job.state else 0
        for number in range(start + 1, 7):
            job.checkpoint({"counted": number})
            system.note(number)
            if number in (2, 4):
                raise RuntimeError(f"at {number}")

    message = count.send()
    system.work()
    assert system.finished(1) == {"completed": 1}
    assert system.notes == [1, 2, 3, 4, 5, 6]
    checkpoint = system.job(message).checkpoint
    assert checkpoint is not None
    assert checkpoint.state == {"counted": 6}


def test_a_worker_follows_another_in_the_same_process(system: System) -> None:
    @system.actor()
    def write(n: int) -> None:
        system.note(n)

    for n in range(3):
        system.work()
        write.send(n)
        system.noted(n)
        system.rest()
    assert system.finished(3) == {"completed": 3}
    assert [worker.state for worker in system.queries.workers(everyone=True)] == ["stopped"] * 3

"""Handles of jobs that run: results, named errors, and their twins for asyncio code, on both databases."""

import asyncio
import base64
from collections.abc import Iterator
from typing import Any, assert_type

import dramatiq
import pytest
from dramatiq import Worker
from pydantic import SecretStr

from broker import Broker, actor, build
from errors import Discard, JobCancelled, JobExpired, JobFailed, NotFinished, ResultNotKept
from ledger.states import Reason, State
from middleware.current import current_job
from middleware.handles import Sent
from settings import Settings


@pytest.fixture
def broker(database_url: str) -> Iterator[Broker]:
    found = build(Settings(database_url=database_url))
    yield found
    found.close()


@pytest.fixture
def jobs(broker: Broker) -> Any:
    class Declared:
        @actor(broker=broker, store_results=True)
        @staticmethod
        def double(n: int) -> int:
            current_job().progress(1, 2, "half")
            return 2 * n

        @actor(broker=broker)
        @staticmethod
        def forget(n: int) -> int:
            return n

        @actor(broker=broker)
        @staticmethod
        def refuse(n: int) -> None:
            raise Discard(f"not {n}")

    return Declared


@pytest.fixture
def worker(broker: Broker) -> Iterator[Worker]:
    found = Worker(broker, worker_timeout=100)
    found.start()
    yield found
    found.stop()


def test_a_result_that_was_too_large_is_said_to_be(broker: Broker) -> None:
    @actor(broker=broker, store_results=True)
    def much() -> str:
        return "x" * 2**20

    worker = Worker(broker, worker_timeout=100)
    worker.start()
    with pytest.raises(ResultNotKept, match=r"much\) completed.*HARELINE_MAX_RESULT_BYTES"):
        much.send().result(timeout=30_000)
    worker.stop()


def test_a_result_is_waited_for_or_its_absence_named(broker: Broker, jobs: Any, worker: Worker) -> None:
    double, forget, refuse = jobs.double.send(21), jobs.forget.send(1), jobs.refuse.send(2)
    late = jobs.forget.send_with_options(args=(3,), delay=3_600_000)
    assert double.result(timeout=30_000) == 42
    assert double.result(0) == 42, "again, and from a handle of its id"
    status = double.status()
    assert status.ended
    assert (status.state, status.attempts, status.progress and status.progress.note) == (State.COMPLETED, 1, "half")
    with pytest.raises(ResultNotKept, match=r"forget\) completed.*store_results"):
        forget.result(30_000)
    with pytest.raises(JobFailed, match=rf"job {refuse.job_id} \(refuse\) failed: errors.Discard: not 2") as failed:
        refuse.result(30_000)
    assert (failed.value.error, failed.value.reason) == ("errors.Discard: not 2", Reason.DISCARDED)
    with pytest.raises(NotFinished, match=r"within 0.01 s"):
        late.result(10)
    late.cancel()
    with pytest.raises(JobCancelled, match="was cancelled"):
        late.result(0)


def test_a_job_not_tried_in_time_has_expired(broker: Broker, jobs: Any) -> None:
    late = jobs.forget.send_with_options(args=(1,), expires=1)
    session = broker.ledger.session("test")
    while late.job_id not in session.expire(10):  # by the database's clock, a moment later
        pass
    session.close()
    with pytest.raises(JobExpired, match="was not tried in time"):
        late.result(0)


def test_asyncio_code_waits_without_stopping_its_loop(broker: Broker, jobs: Any, worker: Worker) -> None:
    async def main() -> None:
        double, late = await asyncio.gather(
            jobs.double.send_async(4), jobs.forget.send_with_options_async(args=(1,), delay=3_600_000)
        )
        assert await double.result_async(30_000) == 8
        assert (await double.wait_async()).state is State.COMPLETED
        with pytest.raises(NotFinished):
            await late.wait_async(20)
        assert await late.cancel_async() == "cancelled"
        with pytest.raises(JobCancelled):
            await late.result_async()
        assert (await late.status_async()).state is State.CANCELLED

    asyncio.run(main())


def test_an_actor_declared_by_ours_says_what_it_returns(broker: Broker) -> None:
    @actor(broker=broker)
    def length(text: str) -> int:
        return len(text)

    @actor(broker=broker)
    async def later(text: str) -> float:
        return len(text) / 2

    async def main() -> None:
        assert_type(await length.send_async("four"), Sent[int])
        assert_type(later.send("five"), Sent[float])
        assert_type(await broker.enqueue_async(length.message("six")), Sent[int])

    asyncio.run(main())
    assert len(broker.queries.jobs()) == 3


def test_an_actor_declared_by_dramatiq_has_the_methods_too(broker: Broker) -> None:
    @dramatiq.actor(broker=broker)
    def act(n: int) -> None: ...

    sent = asyncio.run(act.send_async(1))  # type: ignore[attr-defined]
    assert sent.status().state is State.WAITING


def test_the_result_of_a_secret_job_is_opened_where_its_keys_are(database_url: str) -> None:
    keys = SecretStr(f"k1:{base64.b64encode(bytes(32)).decode()}")
    broker = build(Settings(database_url=database_url, keys=keys))

    @actor(broker=broker, sensitive=True, store_results=True)
    def whisper(text: str) -> str:
        current_job().progress(1, note="softly")
        return text.lower()

    worker = Worker(broker, worker_timeout=100)
    worker.start()
    sent = whisper.send("PSST")
    assert sent.result(30_000) == "psst"
    progress = sent.status().progress
    assert progress is not None
    assert progress.note == "softly"
    worker.stop()
    broker.close()

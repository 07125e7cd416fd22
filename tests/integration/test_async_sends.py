"""asyncio producers: a thousand at once, on a loop that goes on."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dramatiq
import pytest

from broker import Broker, build
from errors import InvalidPayload, LedgerUnavailable, QueueFull
from middleware.unique import Duplicate, Unique
from settings import Settings

CATALOGUE = {"narrow": SimpleNamespace(concurrency=1, keep=None, rate=None, max_waiting=3, max_running=None)}


@pytest.fixture
def broker(database_url: str) -> Iterator[Broker]:
    found = build(Settings(database_url=database_url), queues=CATALOGUE)
    yield found
    found.close()


def actor(broker: Broker, **options: Any) -> Any:
    def act(n: int = 0) -> None: ...

    return dramatiq.actor(broker=broker, **{"actor_name": "act", **options})(act)


def commits_of(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many jobs each commit of the lane has recorded."""
    sizes: list[int] = []
    recorded = broker.recorder.recorded

    def counted(jobs: Any, answers: Any) -> None:
        sizes.append(len(jobs))
        recorded(jobs, answers)

    monkeypatch.setattr(broker.recorder, "recorded", counted)
    return sizes


def test_a_thousand_sends_at_once_share_commits_and_the_loop_goes_on(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    act = actor(broker)
    sizes = commits_of(broker, monkeypatch)

    async def main() -> list[Any]:
        await act.send_async(-1)  # everything is open now
        sent = asyncio.gather(*(act.send_async(n) for n in range(1000)))
        beats = 0
        while not sent.done():
            await asyncio.sleep(0)
            beats += 1
        assert beats > 1, "it ran while the database was written to"
        return await sent

    sent = asyncio.run(main())
    assert len({one.job_id for one in sent}) == 1000
    assert [one.args[0] for one in sent] == list(range(1000))
    assert sum(sum(states.values()) for states in broker.queries.counts().values()) == 1001
    assert sum(sizes) == 1001
    assert len(sizes) < 500, "so many commits, and not a thousand"


def test_what_cannot_be_sent_is_told_to_its_sender_alone(broker: Broker) -> None:
    act, unique = actor(broker), actor(broker, actor_name="unique", unique=Unique())
    narrow = actor(broker, actor_name="narrow", queue_name="narrow")

    async def main() -> None:
        ends: list[Any] = await asyncio.gather(
            act.send_async(1), act.send_async("x"), *(unique.send_async(7) for _ in range(9)), return_exceptions=True
        )
        good, bad, *uniques = ends
        assert isinstance(bad, InvalidPayload)
        assert good.status().actor == "act"
        assert sorted(isinstance(one, Duplicate) for one in uniques) == [False] + [True] * 8
        assert len({one.job_id for one in uniques}) == 1
        limited = await asyncio.gather(*(narrow.send_async(n) for n in range(5)), return_exceptions=True)
        assert sorted(isinstance(one, QueueFull) for one in limited) == [False] * 3 + [True] * 2
        assert await broker.enqueue_many_async([]) == []
        many = await broker.enqueue_many_async([act.message(n) for n in range(3)], delay=60_000)
        assert len({one.job_id for one in many}) == 3

    asyncio.run(main())


def test_a_send_that_is_cancelled_is_recorded_or_not_and_others_are_not_harmed(broker: Broker) -> None:
    act = actor(broker)

    async def main() -> None:
        tasks = [asyncio.create_task(act.send_async(n)) for n in range(200)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(end, asyncio.CancelledError) for end in ended[::2])
        assert [end.args for end in ended[1::2]] == [(n,) for n in range(1, 200, 2)]

    asyncio.run(main())
    assert broker.recorder.flush()
    count = sum(sum(states.values()) for states in broker.queries.counts().values())
    assert 100 <= count <= 200


def test_without_a_ledger_a_send_fails_at_once(tmp_path: Path) -> None:
    broker = build(Settings(database_url="postgresql://nobody@127.0.0.1:9/none"))
    act = actor(broker)

    async def main() -> None:
        began = time.monotonic()
        ends = await asyncio.gather(*(act.send_async(n) for n in range(10)), return_exceptions=True)
        assert {type(end) for end in ends} == {LedgerUnavailable}
        assert time.monotonic() - began < 10

    asyncio.run(main())
    broker.close()

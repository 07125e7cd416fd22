"""Nudges: whoever looks on is told that something has changed, and nothing else; on both databases."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Mapping

import pytest

from control import Control
from control.queues import pause
from dashboard import live
from dashboard.live import MOST_STREAMS, Hub, Stream, told
from errors import TooManyStreams
from ledger import open_ledger
from ledger.ledger import Session
from ledger.revisions import Revisions, Topic
from tests.ledgers import claim, finish, join, new_job


@pytest.fixture
def session(database_url: str) -> Iterator[Session]:
    session = open_ledger(database_url, road="embedded").session("test")
    yield session
    session.close()


@pytest.fixture
def revisions(database_url: str) -> Iterator[Revisions]:
    revisions = Revisions(database_url)
    revisions.look()
    yield revisions
    revisions.close()


def changed(revisions: Revisions, before: dict[Topic, int]) -> set[str]:
    return {str(topic) for topic, rev in revisions.look().items() if rev != before[topic]}


def test_everything_that_happens_to_a_job_is_noticed_and_nothing_else(session: Session, revisions: Revisions) -> None:
    worker = join(session)
    job, quick = new_job(), new_job()
    revisions.look()

    def noticed() -> set[str]:
        return changed(revisions, before)

    before = dict(revisions.look())
    assert noticed() == set()
    session.enqueue([job])
    moved = {"jobs", "failures", "queues", "flows", "workers"}
    assert noticed() == moved
    before = dict(revisions.look())
    taken = claim(session, worker, job)
    assert noticed() == moved
    before = dict(revisions.look())
    finish(session, worker, taken)
    assert noticed() == moved
    session.enqueue([quick])
    before = dict(revisions.look())
    finish(session, worker, claim(session, worker, quick))  # between two looks
    assert noticed() == moved


def test_a_verb_is_noticed(database_url: str, revisions: Revisions) -> None:
    before = dict(revisions.look())
    control = Control(database_url, "embedded")
    pause(control, "letters", by="test")
    control.close()
    assert {"queues", "audit"} <= changed(revisions, before)


async def events(lines: AsyncIterator[str]) -> AsyncIterator[dict[str, str]]:
    async for text in lines:
        fields = dict(line.split(": ", 1) for line in text.strip().splitlines())
        if "event" in fields:
            yield fields


def test_a_stream_tells_its_topics_once_for_each_look(database_url: str, session: Session) -> None:
    async def follow() -> list[dict[str, str]]:
        hub = Hub(database_url, look_s=0.05)
        stream = hub.open([Topic.JOBS, Topic.AUDIT], "ada")
        heard = events(told(hub, stream, again=False))
        first = asyncio.ensure_future(anext(heard))
        try:
            while not first.done():  # what is sent before the first look is no change
                await asyncio.to_thread(session.enqueue, [new_job()])
                await asyncio.wait([first], timeout=0.2)
            return [first.result()]
        finally:
            hub.close()
            assert [x async for x in heard if x["event"] != "jobs"] == []

    [event] = asyncio.run(follow())
    assert (event["event"], event["id"]) == ("jobs", "jobs-1")
    assert json.loads(event["data"]) == {"topic": "jobs", "rev": 1}


def test_a_look_that_fails_is_not_the_last(
    database_url: str, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stumbles(Revisions):
        looks = 0

        def look(self) -> Mapping[Topic, int]:
            Stumbles.looks += 1
            if Stumbles.looks == 2:
                raise ValueError("out of the blue")
            return super().look()

    monkeypatch.setattr(live, "Revisions", Stumbles)

    async def follow() -> str:
        hub = Hub(database_url, look_s=0.05)
        gone = hub.open([Topic.JOBS], "bob")
        gone.loop = asyncio.new_event_loop()
        gone.loop.close()  # nor does a listener whose loop is closed keep the others from being told
        heard = events(told(hub, hub.open([Topic.JOBS], "ada"), again=False))
        first = asyncio.ensure_future(anext(heard))
        try:
            deadline = asyncio.get_running_loop().time() + 20
            while not first.done():
                assert asyncio.get_running_loop().time() < deadline, "nothing is told any more"
                await asyncio.to_thread(session.enqueue, [new_job()])
                await asyncio.wait([first], timeout=0.2)
            while Stumbles.looks < 4:
                assert asyncio.get_running_loop().time() < deadline, "it looks no more"
                await asyncio.sleep(0.01)
            return first.result()["event"]
        finally:
            first.cancel()
            hub.close()

    assert asyncio.run(follow()) == "jobs"


def test_who_comes_again_is_nudged_of_all_and_no_stream_outlives_who_may_have_it_for_long(sqlite_url: str) -> None:
    async def follow() -> list[str]:
        hub = Hub(sqlite_url)
        stream = hub.open([Topic.JOBS, Topic.QUEUES], "ada")
        heard = [event["event"] async for event in events(told(hub, stream, again=True, longest_s=0.1))]
        hub.close()
        return heard

    assert asyncio.run(follow()) == ["jobs", "queues"]


def test_nobody_has_more_streams_than_they_may_and_one_that_is_left_makes_room(sqlite_url: str) -> None:
    async def open_many() -> None:
        hub = Hub(sqlite_url)
        streams: list[Stream] = [hub.open(Topic, "ada") for _ in range(MOST_STREAMS)]
        with pytest.raises(TooManyStreams, match="close one"):
            hub.open(Topic, "ada")
        hub.open(Topic, "grace")
        hub.leave(streams[0])
        hub.open(Topic, "ada")
        hub.close()
        assert hub.open(Topic, "ada").over

    asyncio.run(open_many())

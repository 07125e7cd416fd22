"""Schedules as code and as data, and a scheduler that goes by what is changed while it runs."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import dramatiq
import pytest
from pydantic import SecretStr
from sqlalchemy import select, update

from broker import build
from control import Control, queues
from control import schedules as verbs
from errors import BadSchedule, IllegalTransition, QueueDraining, ScheduleNotFound
from ledger.engine import Database
from ledger.orders import Knob
from ledger.queries import Queries
from ledger.schedule_queries import ScheduleQueries
from ledger.schedules import Overlap, Schedule, cron, every
from ledger.schedules.declare import declared
from ledger.tables import journal, schedules, ticks
from ledger.ticks import TickOutcome
from scheduler import Clock, Scheduler, plan
from settings import QueueSettings, Settings

BY = "someone"
BEAT = Schedule("beat", "tidy", "every 1s", args=("a",))
DAILY = Schedule("daily", "tidy", "0 3 * * *", "Europe/Paris", args=("b",))


class World:
    def __init__(self, url: str) -> None:
        self.url = url
        self.settings = Settings(database_url=url, queues={"small": QueueSettings(max_waiting=1)})
        self.broker = build(self.settings)
        dramatiq.actor(broker=self.broker, actor_name="tidy", queue_name="upkeep")(_tidy)
        dramatiq.actor(broker=self.broker, actor_name="few", queue_name="small")(_tidy)
        dramatiq.actor(broker=self.broker, actor_name="lone", queue_name="open")(_tidy)
        self.control = Control(url, "embedded")
        self.queries = ScheduleQueries(url)
        self.database = Database(url)

    def put(self, *wanted: Schedule) -> dict[str, verbs.Change]:
        return verbs.put(self.control, wanted, judge=self.broker, by=BY)

    def declare(self, *wanted: Schedule) -> dict[str, verbs.Change]:
        return verbs.reconcile(self.control, plan(wanted, self.settings, self.broker), by=BY)

    def one(self, key: str) -> Any:
        found = self.queries.one(key)
        assert found is not None
        return found

    def outcomes(self, key: str) -> list[str]:
        return [str(tick.outcome) for tick in self.queries.history(key, 1000)]

    def sent(self, key: str) -> int:
        return self.outcomes(key).count("sent")

    def set(self, key: str, **values: Any) -> None:
        with self.database.write() as connection:
            connection.execute(update(schedules).where(schedules.c.key == key).values(**values))

    def told(self) -> list[str]:
        with self.database.read() as connection:
            return list(connection.scalars(select(journal.c.event).where(journal.c.actor == BY).order_by(journal.c.id)))

    @contextmanager
    def scheduler(self) -> Iterator[Scheduler]:
        """One that runs, on a thread."""
        queries = ScheduleQueries(self.url)
        scheduler = Scheduler(self.broker, queries)
        thread = threading.Thread(target=scheduler.run)
        thread.start()
        try:
            yield scheduler
        finally:
            scheduler.stop()
            thread.join(30)
            queries.close()
            assert not thread.is_alive()

    def close(self) -> None:
        for part in (self.broker, self.control, self.queries, self.database):
            part.close()


def _tidy(name: str = "") -> None:
    """Never run."""


def until(what: Callable[[], object], timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def world(database_url: str) -> Iterator[World]:
    world = World(database_url)
    yield world
    world.close()


@pytest.fixture
def small(sqlite_url: str) -> Iterator[World]:
    world = World(sqlite_url)
    yield world
    world.close()


# -- as data


def test_a_schedule_is_added_changed_and_left_alone_by_its_key(world: World) -> None:
    assert world.put(BEAT, DAILY) == {"beat": "added", "daily": "added"}
    before = world.one("daily")
    assert (before.state, before.source, before.words) == ("active", "data", "every day at 03:00 in Europe/Paris")
    assert world.put(BEAT, replace(DAILY, when="0 4 * * *")) == {"beat": "same", "daily": "changed"}
    after = world.one("daily")
    assert after.revision == before.revision + 1
    assert after.schedule == replace(DAILY, when="0 4 * * *")
    assert after.done_until > before.done_until  # a time that was never planned is not missed
    assert world.put(replace(DAILY, when="0 4 * * *", args=("c",))) == {"daily": "changed"}
    assert world.one("daily").done_until == after.done_until
    assert world.told() == ["schedule added", "schedule added", "schedule changed", "schedule changed"]


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        (replace(BEAT, actor="tide"), "no actor is named 'tide'; the nearest is tidy"),
        (replace(BEAT, args=(1, 2)), "'beat': the arguments do not fit the signature of actor 'tidy'"),
        (replace(BEAT, kwargs={"nome": 1}), "nome"),
        (replace(BEAT, options={"priority": 9.5}), "priority"),
    ],
)
def test_what_cannot_be_sent_is_refused_by_name_and_nothing_is_written(
    small: World, wanted: Schedule, names: str
) -> None:
    with pytest.raises(BadSchedule) as caught:
        small.put(DAILY, wanted)
    assert "'beat'" in str(caught.value)
    assert names in str(caught.value)
    assert small.queries.keys() == []


def test_an_actor_with_secret_arguments_gets_none_from_a_schedule(small: World) -> None:
    keys = SecretStr("2026-05:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
    keyed = build(Settings(database_url=small.url, keys=keys))
    dramatiq.actor(broker=keyed, actor_name="hush", queue_name="upkeep", sensitive=True)(_tidy)
    with pytest.raises(BadSchedule, match="'hush' has secret arguments"):
        verbs.put(small.control, [replace(BEAT, actor="hush")], judge=keyed, by=BY)
    verbs.put(small.control, [replace(BEAT, actor="hush", args=())], judge=keyed, by=BY)
    keyed.close()


def test_thousands_are_put_by_their_keys(small: World) -> None:
    wanted = [replace(BEAT, key=f"account-{n}", args=(str(n),), jitter_s=60) for n in range(1_200)]
    assert set(small.put(*wanted).values()) == {"added"}
    assert set(small.put(*wanted).values()) == {"same"}
    assert len(small.queries.all()) == 1_200


# -- as code


def test_what_the_code_declares_no_more_is_shown_and_sends_nothing(world: World) -> None:
    assert world.declare(BEAT, DAILY) == {"beat": "added", "daily": "added"}
    with pytest.raises(IllegalTransition, match="declared in code"):
        verbs.remove(world.control, "beat", by=BY)
    assert world.declare(DAILY) == {"daily": "same"}
    gone = world.one("beat")
    assert (gone.state, gone.left_out, gone.next_at) == ("left out", verbs.NOT_DECLARED, None)
    with world.scheduler():
        time.sleep(1.5)
    assert world.outcomes("beat") == []
    assert world.declare(BEAT, DAILY) == {"beat": "changed", "daily": "same"}
    assert world.one("beat").state == "active"
    world.declare()
    verbs.remove(world.control, "beat", by=BY)
    assert world.queries.keys() == ["daily"]


def test_a_key_belongs_to_the_code_or_to_data(small: World) -> None:
    small.declare(DAILY)
    with pytest.raises(BadSchedule, match="'daily' is declared in code"):
        small.put(replace(DAILY, when="0 4 * * *"))
    small.put(BEAT)
    with pytest.raises(BadSchedule, match="'beat' was added at runtime"):
        small.declare(BEAT)


def test_what_the_settings_leave_out_is_shown_with_the_reason(small: World) -> None:
    small.declare(replace(DAILY, skip=lambda settings: "DAILY is off"))
    assert (small.one("daily").state, small.one("daily").left_out) == ("left out", "DAILY is off")
    small.declare(DAILY)
    assert small.one("daily").state == "active"


def test_schedules_stand_above_their_actors(small: World) -> None:
    @every("3s", args=(1,))
    @cron("0 3 * * *", key="nightly", tz="Europe/Paris", overlap="skip")
    @dramatiq.actor(broker=small.broker)
    def watch(n: int = 0) -> None: ...

    nightly, often = declared([watch])
    assert often == Schedule("watch", "watch", "every 3s", args=(1,))
    assert nightly == Schedule("nightly", "watch", "0 3 * * *", "Europe/Paris", overlap=Overlap.SKIP)
    assert [schedule for schedule, _ in plan([BEAT], small.settings, small.broker)] == [BEAT, nightly, often]
    with pytest.raises(BadSchedule, match=r"'watch': '0 25 \* \* \*'|'watch'.*'0 25"):
        cron("0 25 * * *")(watch)
    with pytest.raises(BadSchedule, match="'watch': zone is not known; known are args"):
        every("3s", zone="UTC")(watch)
    with pytest.raises(BadSchedule, match=r"above @dramatiq\.actor"):
        every("3s")(print)  # type: ignore[type-var]
    every("5s")(watch)
    with pytest.raises(BadSchedule, match="'watch' is there twice"):
        plan([], small.settings, small.broker)


# -- while a scheduler runs


def test_what_is_changed_takes_effect_within_two_seconds(world: World) -> None:
    with world.scheduler():
        world.put(BEAT)
        began = time.monotonic()
        until(lambda: world.sent("beat"))
        assert time.monotonic() - began < 3.5  # two, and the second until its tick

        verbs.pause(world.control, "beat", by=BY)
        paused = world.sent("beat")
        assert world.one("beat").state == "paused"
        time.sleep(1.6)
        assert world.sent("beat") == paused  # from the moment on it returned

        began = time.monotonic()
        verbs.resume(world.control, "beat", by=BY)
        until(lambda: world.sent("beat") > paused)
        assert time.monotonic() - began < 3.5
        assert set(world.outcomes("beat")) == {"sent"}  # what the pause left out was not missed

        world.put(replace(BEAT, args=("changed",)))
        queries = Queries(world.url)
        began = time.monotonic()

        def last() -> bytes:
            job = queries.job(world.queries.history("beat", 1)[0].job or "")
            return job.body if job else b""

        until(lambda: b"changed" in last())
        assert time.monotonic() - began < 3.5
        queries.close()

        verbs.remove(world.control, "beat", by=BY)
        with pytest.raises(ScheduleNotFound):
            verbs.pause(world.control, "beat", by=BY)
        time.sleep(1.2)
        with world.database.read() as connection:
            assert connection.scalars(select(ticks.c.fire_at)).all() == []


def test_a_tick_whose_queue_is_full_waits_and_the_newest_is_sent(small: World) -> None:
    small.put(Schedule("few", "few", "every 1s"))
    with small.scheduler():
        until(lambda: "waiting" in small.outcomes("few"))
        assert any("is full" in trouble for trouble in small.one("few").troubles)
        until(lambda: len(small.outcomes("few")) > 2)
        small.broker.flush("small")
        until(lambda: small.sent("few") == 2)
    assert "missed" in small.outcomes("few")


def test_ticks_go_by_what_operators_have_changed_and_keep_no_other_back(small: World) -> None:
    small.put(BEAT, Schedule("few", "few", "every 1s"), Schedule("lone", "lone", "every 1s"))
    queues.drain(small.control, "small", by=BY)
    queues.change(small.control, "upkeep", {Knob.MAX_WAITING: 1}, by=BY)
    with small.scheduler():
        until(lambda: "waiting" in small.outcomes("few") and "waiting" in small.outcomes("beat"))
        assert any("is being drained (someone)" in trouble for trouble in small.one("few").troubles)
        until(lambda: small.sent("lone") >= 2)
        assert (small.sent("few"), small.sent("beat")) == (0, 1)
        queues.resume(small.control, "small", by=BY)
        until(lambda: small.sent("few") == 1)


def test_a_schedule_is_not_run_by_hand_into_a_queue_that_is_drained(small: World) -> None:
    queues.drain(small.control, "small", by=BY)
    few = small.broker.get_actor("few")
    with pytest.raises(QueueDraining, match="queue 'small' is being drained"):
        small.broker.enqueue_tick(few.message(), ("few", datetime(2030, 1, 1, tzinfo=UTC)))


def test_a_schedule_whose_actor_is_gone_is_refused_and_keeps_no_other_back(small: World) -> None:
    small.put(BEAT, replace(BEAT, key="other"))
    del small.broker.actors["tidy"]
    dramatiq.actor(broker=small.broker, actor_name="tidier", queue_name="upkeep")(_tidy)
    small.put(Schedule("fine", "tidier", "every 1s"))
    with small.scheduler():
        until(lambda: small.sent("fine") and len(small.outcomes("other")) > 0)
    assert set(small.outcomes("beat")) == {"refused"}
    [trouble] = small.one("beat").troubles
    assert "no actor is named 'tidy'; the nearest is tidier" in trouble


def test_a_clock_that_steps_back_doubles_nothing(small: World) -> None:
    small.put(BEAT)
    with small.scheduler() as scheduler:
        until(lambda: small.sent("beat") >= 2)
        clock = scheduler._session.clock
        scheduler._session.clock = lambda: clock() - timedelta(seconds=90)  # type: ignore[method-assign]
        time.sleep(2.5)
        sent = small.queries.history("beat", 1000)
        scheduler._session.clock = clock  # type: ignore[method-assign]
        until(lambda: small.sent("beat") > len(sent))
    found = [tick.fire_at for tick in small.queries.history("beat", 1000) if tick.outcome is TickOutcome.SENT]
    assert len(found) == len(set(found))


@pytest.mark.parametrize("slow", ["to be asked", "to answer"])
def test_an_answer_that_takes_long_makes_no_tick_early(small: World, slow: str) -> None:
    session = small.broker.ledger.session("test")
    read = session.clock

    def clock() -> datetime:
        if slow == "to be asked":
            time.sleep(0.2)
        found = read()
        if slow == "to answer":
            time.sleep(0.2)
        return found

    session.clock = clock  # type: ignore[method-assign]
    ours = Clock()
    ours.look(session)
    assert ours.now() <= read() <= ours.now() + timedelta(seconds=5)
    session.close()


# -- health


def test_a_schedule_that_keeps_failing_waits_or_is_late_is_unhealthy(world: World) -> None:
    world.put(BEAT)
    assert world.one("beat").troubles == []
    now = world.queries.time()
    world.set("beat", done_until=now - timedelta(seconds=30))
    [trouble] = world.one("beat").troubles
    assert "s late; does a scheduler run?" in trouble
    world.set("beat", done_until=now, failures=3)
    assert world.one("beat").troubles == ["its last 3 jobs failed"]
    verbs.pause(world.control, "beat", by=BY)
    assert world.one("beat").troubles == ()
    verbs.resume(world.control, "beat", by=BY)
    world.set("beat", definition='{"actor": "tidy", "when": "0 25 * * *"}')
    assert "'beat'" in world.one("beat").troubles[0]

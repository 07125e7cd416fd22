"""A paused queue starts nothing new, costs nothing, and goes on when it is resumed."""

from collections import Counter
from datetime import datetime, timedelta

from control.queues import pause, resume
from control.transaction import Control
from ledger.instants import to_micros
from tests.acceptance.rabbit import Rabbit, settled
from tests.acceptance.system import System
from tests.servers import RabbitMQ

PREFETCHED = 2 * 8  # of the queue ``work``


def test_a_pause_starts_nothing_new_and_a_resume_goes_on(anywhere: System, rabbitmq: RabbitMQ) -> None:
    system = anywhere
    system.env["WORKER_QUEUE_STALLED_INTERVAL"] = "20000"
    control = Control(system.database_url, "rabbitmq" if system.broker_url else "embedded")
    system.run("broker.enqueue_many([linger.message(log, n, 50) for n in range(500)])")
    system.worker()
    system.until(lambda: len(system.ran()) > 20)

    pause(control, "work", by="a test")
    paused_at = system.queries.database_time()
    system.run("record_other.send(log, 'other')")
    system.until(lambda: "other" in system.ran(), because="for the other queue")
    system.until(lambda: not system.states().get("active"), because="for what was running")
    started = "SELECT count(*) FROM attempts JOIN jobs ON id = job_id WHERE queue = 'work' AND started_at > :at"
    assert system.sql(started, at=stored(system, paused_at)) == [(0,)]
    [(waiting, moved)] = system.sql(
        "SELECT count(*), count(CASE WHEN ticket > 1 THEN 1 END) FROM jobs WHERE queue = 'work' AND state = 'waiting'"
    )
    assert waiting > 300
    assert moved <= 2 * PREFETCHED  # those whose messages were in the process's hands, and hardly more

    resume(control, "work", by="a test")
    resumed_at = system.queries.database_time()
    assert system.finished(501) == {"completed": 501}
    assert Counter(system.ran()) == Counter(["other", *map(str, range(500))])
    soon = "SELECT count(*) FROM attempts WHERE started_at > :resumed AND started_at < :soon"
    two_s = timedelta(seconds=2)
    went_on = system.sql(soon, resumed=stored(system, resumed_at), soon=stored(system, resumed_at + two_s))
    assert went_on != [(0,)]
    settled(system, Rabbit(rabbitmq, system.broker_url) if system.broker_url else None)
    control.close()


def test_a_pause_that_no_heartbeat_saw_is_lifted_all_the_same(unhurried: System, rabbit: Rabbit) -> None:
    system = unhurried
    control = Control(system.database_url, "rabbitmq")
    parked = "SELECT count(*) > 0 FROM journal WHERE event = 'parked' AND at > (SELECT paused_at FROM queues)"
    pause(control, "work", by="a test")
    system.run("broker.enqueue_many([record.message(log, n) for n in range(300)])\nbroker.road.flush(10)")
    system.worker()  # it finds the queue paused and full
    system.run("record_other.send(log, 'other')")
    system.until(lambda: "other" in system.ran(), because="for the other queue")
    [(moved,)] = system.sql("SELECT count(*) FROM jobs WHERE ticket > 1")
    assert moved <= 2 * PREFETCHED
    resume(control, "work", by="a test")
    assert system.finished(301, timeout_s=15) == {"completed": 301}
    for round_ in range(3):
        pause(control, "work", by="a test")
        system.run(f"for n in range(20): record.send(log, f'{round_}-{{n}}')")
        system.until(lambda: system.sql(parked) == [(True,)], because="for a claim to find the pause")
        resume(control, "work", by="a test")
        expected = 301 + 20 * (round_ + 1)
        assert system.finished(expected, timeout_s=15) == {"completed": expected}
    settled(system, rabbit)
    control.close()


def stored(system: System, moment: datetime) -> datetime | int:
    """A time as the ledger's tables have it."""
    return to_micros(moment) if system.database_url.startswith("sqlite") else moment

"""PostgreSQL is restarted, and its connections are broken off, under load.

A send() returns, and then the job runs, or raises LedgerUnavailable.  What was recorded completes exactly once in the
ledger.  A worker that could not beat is not taken for dead.
"""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.acceptance.rabbit import Rabbit, settled
from tests.acceptance.system import Produced, System
from tests.servers import Postgres

SEND = "lambda line: record.send(log, line)"
LEASE_S = 3


@pytest.fixture
def system(on_rabbitmq: System) -> System:
    on_rabbitmq.env["WORKER_QUEUE_STALLED_INTERVAL"] = str(LEASE_S * 1000)
    return on_rabbitmq


def test_postgresql_may_be_restarted_under_load(system: System, rabbit: Rabbit, postgres: Postgres) -> None:
    system.worker(processes=2)
    with system.producer(SEND) as producer:
        for _ in range(2):
            ran = len(system.ran())
            system.until(lambda ran=ran: len(system.ran()) > ran + 50)  # type: ignore[misc]
            postgres.restart()
        produced = producer.stop()
    kept(system, rabbit, produced)


def test_nobody_is_judged_dead_for_beats_the_database_could_not_take(
    system: System, rabbit: Rabbit, postgres: Postgres
) -> None:
    release = system.folder / "release"
    worker = system.worker(processes=2)
    system.run(f"for n in range(4): hold.send(log, n, {str(release)!r})")
    system.until(lambda: len(system.ran()) == 4)
    postgres.stop()
    for _ in range(LEASE_S + 1):  # the maintenance of either process tries once a second
        tried = said(system, "maintenance waits")
        system.until(lambda tried=tried: said(system, "maintenance waits") > tried)  # type: ignore[misc]
    postgres.start()
    beats = "SELECT min(heartbeat_at) > clock_timestamp() - interval '1 second' FROM workers"
    system.until(lambda: system.sql(beats) == [(True,)], because="until everyone has beaten again")
    began = system.queries.database_time()
    system.until(lambda: (system.queries.database_time() - began).total_seconds() > LEASE_S, because="to be judged")
    release.touch()
    assert system.finished(4) == {"completed": 4}
    assert Counter(system.ran()) == Counter([f"{what} {n}" for n in range(4) for what in ("start", "end")])
    assert system.sql("SELECT state, count(*) FROM workers GROUP BY state") == [("running", 2)]
    assert worker.process.poll() is None
    settled(system, rabbit)


def test_connections_may_be_broken_off_at_any_moment(system: System, rabbit: Rabbit, postgres: Postgres) -> None:
    system.worker(processes=2)
    with system.producer(SEND) as producer:
        system.until(lambda: len(system.ran()) > 50)
        ran = len(system.ran())
        with breaking_off(postgres, system.database_url):
            system.until(lambda: len(system.ran()) > ran + 100, because="while connections break")
        produced = producer.stop()
    kept(system, rabbit, produced)


def kept(system: System, rabbit: Rabbit, produced: Produced) -> None:
    """What every outage of the database must leave behind."""
    settled(system, rabbit, timeout_s=60)
    states = system.states()
    assert set(states) == {"completed"}
    times = Counter(system.ran())
    assert times.keys() >= set(produced.sent)
    # A send may raise although its job was recorded: the answer was lost.  Then the job runs, and why not.
    assert times.keys() <= {*produced.sent, *produced.refused}
    assert states["completed"] == len(times)
    # In the ledger each one completed exactly once, and nobody was taken for dead.
    assert system.sql("SELECT count(*) FROM attempts WHERE outcome = 'completed'") == [(len(times),)]
    assert system.sql("SELECT count(*) FROM attempts WHERE outcome <> 'completed'") == [(0,)]
    assert system.sql("SELECT count(*) FROM workers WHERE state = 'dead'") == [(0,)]
    assert set(times.values()) == {1}


def said(system: System, text: str) -> int:
    return sum(text in line for worker in system.workers for line in worker.lines)


@contextmanager
def breaking_off(postgres: Postgres, url: str) -> Iterator[None]:
    """Terminate every connection to the database, ten times a second."""
    enough = threading.Event()

    def run() -> None:
        while not enough.wait(0.1):
            postgres.terminate_connections(url)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        enough.set()
        thread.join()

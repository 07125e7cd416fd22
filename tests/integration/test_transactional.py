"""Jobs in a transaction of the caller's: on every kind of connection, with every policy, and what is refused."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, closing, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dramatiq
import psycopg
import pytest
from psycopg.rows import dict_row
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from broker import Broker, build, transactional
from broker.room import FULL_S, ROOM_S
from errors import InvalidPayload, JobNotFound, QueueFull, Refusal
from ledger.states import State
from ledger.tables import APPEND_ONLY, metadata
from middleware.unique import Duplicate, Unique
from settings import Settings
from tests.servers import Postgres

CATALOGUE = {
    "default": SimpleNamespace(concurrency=1, keep=None, rate=None, max_waiting=None, max_running=None),
    "narrow": SimpleNamespace(concurrency=1, keep=None, rate=None, max_waiting=2, max_running=None),
}
Open = Callable[[str], AbstractContextManager[tuple[Any, Any]]]


def dialect(url: str) -> str:
    return url.replace("postgresql://", "postgresql+psycopg://")


# -- each: a connection, and something to execute on it by


@contextmanager
def by_driver(url: str) -> Iterator[tuple[Any, Any]]:
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as file:
            file.row_factory = sqlite3.Row
            yield file, file
            file.commit()
        return
    with psycopg.connect(url, row_factory=dict_row) as connection:
        yield connection, connection


@contextmanager
def by_connection(url: str) -> Iterator[tuple[Any, Any]]:
    engine = create_engine(dialect(url))
    with engine.connect() as connection:
        yield connection, connection
    engine.dispose()


@contextmanager
def by_session(url: str) -> Iterator[tuple[Any, Any]]:
    engine = create_engine(dialect(url))
    with Session(engine) as session:
        yield session, session
    engine.dispose()


@contextmanager
def by_scoped_session(url: str) -> Iterator[tuple[Any, Any]]:
    engine = create_engine(dialect(url))
    session = scoped_session(sessionmaker(engine))
    yield session, session
    session.remove()
    engine.dispose()


KINDS: dict[str, Open] = {f.__name__: f for f in (by_driver, by_connection, by_session, by_scoped_session)}


@asynccontextmanager
async def by_async_driver(url: str) -> AsyncIterator[Any]:
    async with await psycopg.AsyncConnection.connect(url, row_factory=dict_row) as connection:
        yield connection


@asynccontextmanager
async def by_async_connection(url: str) -> AsyncIterator[Any]:
    engine = create_async_engine(dialect(url))
    async with engine.connect() as connection:
        yield connection
    await engine.dispose()


@asynccontextmanager
async def by_async_session(url: str) -> AsyncIterator[Any]:
    engine = create_async_engine(dialect(url))
    async with AsyncSession(engine) as session:
        yield session
    await engine.dispose()


@asynccontextmanager
async def by_async_scoped_session(url: str) -> AsyncIterator[Any]:
    engine = create_async_engine(dialect(url))
    session = async_scoped_session(async_sessionmaker(engine), scopefunc=asyncio.current_task)
    yield session
    await session.remove()
    await engine.dispose()


ASYNC_KINDS = {f.__name__: f for f in (by_async_driver, by_async_connection, by_async_session, by_async_scoped_session)}


@pytest.fixture(scope="module")
def one_database(postgres: Postgres, _postgres_template: str) -> Iterator[str]:
    postgres.start()
    url = postgres.create_database(template=_postgres_template)
    yield url
    postgres.drop_database(url)


@pytest.fixture
def postgres_url(one_database: str) -> str:
    """One for all of these tests: making one takes longer than most of them."""
    with psycopg.connect(one_database) as connection:
        tables = [table.name for table in metadata.sorted_tables if table not in APPEND_ONLY]
        connection.execute("; ".join(f"DELETE FROM {table}" for table in tables))
    return one_database


@pytest.fixture
def broker(database_url: str) -> Iterator[Broker]:
    found = build(Settings(database_url=database_url), queues=CATALOGUE)
    yield found
    found.close()


@pytest.fixture
def on_postgres(postgres_url: str) -> Iterator[Broker]:
    found = build(Settings(database_url=postgres_url), queues=CATALOGUE)
    yield found
    found.close()


def actor(broker: Broker, **options: Any) -> Any:
    def act(n: int = 0) -> None: ...

    return dramatiq.actor(broker=broker, **{"actor_name": "act", **options})(act)


def recorded(broker: Broker) -> list[Any]:
    jobs = (broker.queries.job(row.id) for row in reversed(broker.queries.jobs()))
    return [job.message["args"] for job in jobs if job is not None and job.message is not None]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_rolled_back_leaves_no_job_and_what_is_committed_one(
    broker: Broker, database_url: str, kind: str
) -> None:
    act = actor(broker)
    with KINDS[kind](database_url) as (connection, _):
        with transactional(connection):
            undone = act.send(1)
        with pytest.raises(JobNotFound):
            undone.status()
        connection.rollback()
        with transactional(connection):
            kept = act.send(2)
            several = broker.enqueue_many([act.message(3), act.message(4)])
            with pytest.raises(JobNotFound):
                kept.status()
        connection.commit()
        assert recorded(broker) == [[2], [3], [4]]
        assert [sent.status().state for sent in (kept, *several)] == [State.WAITING] * 3
        with transactional(connection):
            act.send(5)
            connection.commit()
            act.send(6)
    act.send(7)
    assert [args for args in recorded(broker) if args != [6] or kind == "by_driver"][3:] in (
        [[5], [7]],
        [[5], [6], [7]],
    )


@pytest.mark.parametrize("kind", ASYNC_KINDS)
def test_the_same_holds_for_asyncio_connections(on_postgres: Broker, postgres_url: str, kind: str) -> None:
    act, unique = actor(on_postgres), actor(on_postgres, actor_name="unique", unique=Unique(mode="replace"))

    async def main() -> None:
        async with ASYNC_KINDS[kind](postgres_url) as connection:
            async with transactional(connection):
                await act.send_async(1)
            await connection.rollback()
            async with transactional(connection):
                kept, *_ = await asyncio.gather(*(act.send_async(2) for _ in range(20)))
                await on_postgres.enqueue_many_async([act.message(2) for _ in range(5)])
                first, second = await asyncio.gather(
                    *(unique.send_with_options_async(args=(3,), delay=60_000, expires=5_000) for _ in range(2))
                )
                assert first.job_id == second.job_id
                with pytest.raises(Refusal, match="await send_async"):
                    act.send(9)
                with pytest.raises(JobNotFound):
                    await kept.status_async()
            await connection.commit()
            assert (await kept.status_async()).state is State.WAITING

    asyncio.run(main())
    assert recorded(on_postgres) == [[2]] * 25 + [[3]]


@pytest.mark.parametrize("kind", KINDS)
def test_a_savepoint_that_is_rolled_back_takes_its_jobs_along(broker: Broker, database_url: str, kind: str) -> None:
    act = actor(broker)
    with KINDS[kind](database_url) as (connection, execute), transactional(connection):
        act.send(1)
        for n, ending in ((2, "ROLLBACK TO"), (3, "RELEASE")):
            statement = str if kind == "by_driver" else text
            execute.execute(statement("SAVEPOINT s"))
            act.send(n)
            execute.execute(statement(f"{ending} s"))
        connection.commit()
    assert recorded(broker) == [[1], [3]]


@pytest.mark.parametrize("ending", ["commit", "rollback"])
def test_a_sessions_commit_is_seen_and_what_it_kept_is_sent_at_once(
    on_postgres: Broker, postgres_url: str, ending: str
) -> None:
    act = actor(on_postgres)
    went: list[str] = []
    on_postgres.recorder.send = lambda jobs: went.extend(job.id for job in jobs)
    engine = create_engine(dialect(postgres_url))
    with Session(engine) as session:
        with transactional(session):
            kept = act.send(1)
            with session.begin_nested():
                released = act.send(2)
            inner = session.begin_nested()
            undone = act.send(3)
            later = act.send_with_options(args=(4,), delay=60_000)
            inner.rollback()
        assert on_postgres.recorder.flush()
        assert went == [], "a savepoint's end is no commit"
        getattr(session, ending)()
        session.execute(text("SELECT 1"))
        session.commit()
    assert on_postgres.recorder.flush()
    assert went == ([kept.job_id, released.job_id] if ending == "commit" else [])
    assert undone.job_id != later.job_id
    engine.dispose()


def test_a_session_inside_a_transaction_of_others_sends_nothing_before_that_commits(
    on_postgres: Broker, postgres_url: str
) -> None:
    act = actor(on_postgres)
    went: list[str] = []
    on_postgres.recorder.send = lambda jobs: went.extend(job.id for job in jobs)
    engine = create_engine(dialect(postgres_url))
    with engine.connect() as connection:
        connection.begin()
        with Session(connection, join_transaction_mode="rollback_only") as session:
            with transactional(session):
                act.send(1)
            session.commit()
        assert on_postgres.recorder.flush()
        connection.rollback()
    assert (went, recorded(on_postgres)) == ([], [])
    engine.dispose()


def test_when_the_commit_is_inside_the_block_what_it_kept_is_sent_at_its_end(broker: Broker, database_url: str) -> None:
    act = actor(broker)
    went: list[str] = []
    broker.recorder.send = lambda jobs: went.extend(job.id for job in jobs)
    with by_driver(database_url) as (connection, _):
        with transactional(connection):
            kept = act.send(1)
            connection.commit()
            act.send(2)
            connection.rollback()
        assert broker.recorder.flush()
        assert went == [kept.job_id]
        with transactional(connection):
            act.send(3)
        assert broker.recorder.flush()
        assert went == [kept.job_id], "it is not committed yet"


def test_policies_behave_in_it(broker: Broker, database_url: str) -> None:
    act = actor(broker, priority=2)
    unique = actor(broker, actor_name="unique", unique=Unique())
    first = unique.send(1)
    with by_connection(database_url) as (connection, _), transactional(connection):
        assert isinstance(unique.send(1), Duplicate)
        second, third = unique.send(2), unique.send(2)
        assert isinstance(third, Duplicate)
        assert (third.job_id, first.job_id != second.job_id) == (second.job_id, True)
        act.send_with_options(args=(3,), delay=60_000, expires=1_000)
        with pytest.raises(InvalidPayload):
            act.send("three")
        connection.commit()
    rows = {row.actor: row for row in broker.queries.jobs()}
    assert len(broker.queries.jobs()) == 3
    assert (rows["act"].state, rows["act"].priority) == (State.DELAYED, 2)


def test_a_queues_limit_counts_what_the_transaction_has_recorded(broker: Broker, database_url: str) -> None:
    act = actor(broker, queue_name="narrow")
    with by_connection(database_url) as (connection, _):
        with transactional(connection):
            act.send(1)
            act.send(2)
            threading.Event().wait(ROOM_S)  # the last look is too old now, and the ledger shows nothing of the two
            with pytest.raises(QueueFull):
                act.send(3)
        connection.rollback()
    threading.Event().wait(FULL_S)  # so long it believes that the queue is full
    act.send(4)


def test_a_key_is_held_until_the_transaction_ends(on_postgres: Broker, postgres_url: str) -> None:
    act = actor(on_postgres, unique=Unique())
    other = build(Settings(database_url=postgres_url))
    same = actor(other, unique=Unique())
    sent: list[Any] = []
    with psycopg.connect(postgres_url) as connection:
        with transactional(connection):
            first = act.send(1)
        waits = threading.Thread(target=lambda: sent.append(same.send(1)))
        waits.start()
        with psycopg.connect(postgres_url, autocommit=True) as watch:
            blocked = (
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
            )
            while watch.execute(blocked).fetchone() != (1,):
                assert sent == []
        connection.commit()
        waits.join(30)
    assert [(type(x), x.job_id) for x in sent] == [(Duplicate, first.job_id)]
    other.close()


def test_a_unique_job_is_refused_where_its_key_could_not_be_judged(on_postgres: Broker, postgres_url: str) -> None:
    plain, act = actor(on_postgres), actor(on_postgres, actor_name="unique", unique=Unique())
    with psycopg.connect(postgres_url) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        with transactional(connection):
            plain.send(1)
            with pytest.raises(Refusal, match="REPEATABLE READ transaction; use READ COMMITTED"):
                act.send(1)
    assert recorded(on_postgres) == [[1]]


def test_a_connection_to_another_database_is_refused(broker: Broker, database_url: str, tmp_path: Path) -> None:
    act = actor(broker)

    def refused(connection: Any, why: str) -> None:
        with transactional(connection), pytest.raises(Refusal, match=why):
            act.send()

    if database_url.startswith("sqlite"):
        for name, why in (("other.db", r"other\.db, the ledger is .*hareline\.db: only"), (":memory:", "in memory")):
            connection = sqlite3.connect(tmp_path / name if name != ":memory:" else name)
            refused(connection, why)
            connection.close()
        return
    with psycopg.connect(database_url.rpartition("/")[0] + "/postgres") as elsewhere:
        refused(elsewhere, "to database 'postgres' at .*, the ledger is .*: only the ledger's own")
    with psycopg.connect(database_url) as here:
        here.execute("CREATE TEMPORARY TABLE jobs (id uuid)")
        refused(here, "other tables than the ledger's; look at its search_path")
        here.rollback()
        with transactional(here):
            act.send()
    assert len(recorded(broker)) == 1


def test_a_connection_in_no_transaction_is_refused(broker: Broker, database_url: str) -> None:
    act = actor(broker)
    engine = create_engine(dialect(database_url), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection, transactional(connection), pytest.raises(Refusal, match="autocommit mode"):
        act.send()
    engine.dispose()
    if database_url.startswith("sqlite"):
        raw: Any = sqlite3.connect(database_url.removeprefix("sqlite:///"), isolation_level=None)
    else:
        raw = psycopg.connect(database_url, autocommit=True)
    with transactional(raw):
        with pytest.raises(Refusal, match="autocommit mode"):
            act.send()
        raw.execute("BEGIN")
        act.send()
        raw.execute("COMMIT")
    raw.close()
    with transactional(raw), pytest.raises(Refusal, match="closed"):
        act.send()
    with engine.connect() as connection:
        pass
    with transactional(connection), pytest.raises(Refusal, match="is closed"):
        act.send()
    engine.dispose()
    assert len(recorded(broker)) == 1


def test_what_is_no_connection_to_the_ledger_is_refused_by_name(broker: Broker, database_url: str) -> None:
    act = actor(broker)
    for thing, name in ((object(), "builtins.object"), (create_engine("sqlite://"), "Engine")):
        with transactional(thing), pytest.raises(Refusal, match=rf"transactional\(\) cannot use a .*{name}"):
            act.send()


def test_a_transaction_that_failed_is_refused(on_postgres: Broker, postgres_url: str) -> None:
    act = actor(on_postgres)
    with psycopg.connect(postgres_url) as connection:
        with pytest.raises(psycopg.errors.UndefinedTable):
            connection.execute("SELECT * FROM nothing")
        with transactional(connection), pytest.raises(Refusal, match="has failed: roll it back"):
            act.send()


def test_a_block_is_for_its_kind_of_code_its_tasks_and_once(on_postgres: Broker, postgres_url: str) -> None:
    act = actor(on_postgres)

    async def main() -> None:
        over = asyncio.Event()

        async def late() -> None:
            await over.wait()
            await act.send_async(1)

        async with await psycopg.AsyncConnection.connect(postgres_url) as connection:
            with pytest.raises(Refusal, match="async with transactional"), transactional(connection):
                pass
            async with transactional(connection):
                task = asyncio.create_task(late())
            over.set()
            with pytest.raises(Refusal, match="outlived the transactional"):
                await task
        with psycopg.connect(postgres_url) as plain:
            with pytest.raises(Refusal, match="write with transactional"):
                async with transactional(plain):
                    pass
            once = transactional(plain)
            with once:
                await act.send_async(2)
                thread = threading.Thread(target=act.send, args=(3,))
                thread.start()
                thread.join()
            with pytest.raises(Refusal, match="make another"), once:
                pass
            plain.rollback()

    asyncio.run(main())
    assert recorded(on_postgres) == [[3]], "a thread is not in the block"


def test_atomic_sends_and_a_transaction_exclude_each_other(on_postgres: Broker, postgres_url: str) -> None:
    act = actor(on_postgres)
    refused = pytest.raises(Refusal, match="in an actor with atomic_sends")
    with psycopg.connect(postgres_url) as connection:
        with on_postgres.holding([]), transactional(connection), refused:
            act.send()
        with transactional(connection), on_postgres.holding([]), refused:
            act.send()
    assert recorded(on_postgres) == []

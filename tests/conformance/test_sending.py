"""Sends from asyncio code and in the caller's own transaction, and the handles of what was sent."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from broker import transactional
from errors import JobCancelled, JobFailed
from middleware.handles import Job
from tests.conformance.system import System


@contextmanager
def session(system: System) -> Iterator[Session]:
    """A transaction of the application's own, in the ledger's database."""
    engine = create_engine(system.settings.database_url.replace("postgresql:", "postgresql+psycopg:"))
    with Session(engine) as found:
        yield found
    engine.dispose()


def test_a_handle_follows_its_job(system: System) -> None:
    gate = system.gate()

    @system.actor(store_results=True, max_retries=0)
    def divide(x: int, y: int) -> float:
        return x / y

    @system.actor(max_retries=0)
    def hold() -> None:
        system.note("held")
        gate.wait(30)
        raise ValueError("late")

    good, bad, held, later = (
        divide.send(1, 2),
        divide.send(1, 0),
        hold.send(),
        divide.send_with_options(args=(1, 2), delay=60_000),
    )
    handles: list[Job[Any]] = [Job(sent.job_id) for sent in (good, bad, held, later)]  # type: ignore[attr-defined]
    system.work()
    assert handles[0].result(30_000) == 0.5
    with pytest.raises(JobFailed, match="ZeroDivisionError"):
        handles[1].result(30_000)
    assert handles[3].cancel() == "cancelled"
    system.noted("held")
    assert handles[2].cancel() == "requested"
    assert handles[2].status().cancel_requested
    gate.set()
    with pytest.raises(JobFailed, match="late"):
        handles[2].result(30_000)
    with pytest.raises(JobCancelled):
        handles[3].result(0)


def test_a_transaction_that_commits_leaves_its_jobs_and_one_that_does_not_leaves_none(system: System) -> None:
    @system.actor()
    def bill(order: int) -> None:
        system.note(order)

    system.work()
    with session(system) as own:
        for order, keep in ((1, False), (2, True), (3, False), (4, True)):
            with transactional(own):
                bill.send(order)
            own.commit() if keep else own.rollback()
    assert system.finished(2) == {"completed": 2}
    assert sorted(system.notes) == [2, 4]


def test_what_asyncio_code_sends_at_once_runs_once(system: System) -> None:
    @system.actor()
    def count(n: int) -> None:
        system.note(n)

    async def main() -> None:
        await asyncio.gather(*(count.send_async(n) for n in range(200)))  # type: ignore[attr-defined]

    system.work()
    asyncio.run(main())
    assert system.finished(200) == {"completed": 200}
    assert sorted(system.notes) == list(range(200))

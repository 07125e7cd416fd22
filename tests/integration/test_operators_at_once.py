"""Operators who do the same at the same time: on PostgreSQL, where two transactions are under way at once."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, Table, event, select

from control import Control, circuits, limits, queues
from control.jobs import retry
from control.rows import Locked, lock_ids
from control.transaction import Transaction
from ledger import open_ledger
from ledger import tables as t
from ledger.engine import Database
from ledger.states import Outcome, State
from tests.ledgers import join, new_job, run


@pytest.fixture
def control(postgres_url: str) -> Iterator[Control]:
    control = Control(postgres_url, "rabbitmq")
    yield control
    control.close()


@pytest.mark.parametrize(
    ("verb", "table"),
    [
        (lambda control, by: limits.change(control, "mail", 7, 60.0, 1, by=by), t.limit_rules),
        (lambda control, by: queues.drain(control, "mail", by=by), t.queues),
        (lambda control, by: circuits.hold_open(control, "mail", 60.0, by=by), t.circuits),
    ],
    ids=["limits", "queues", "circuits"],
)
def test_two_who_are_the_first_to_change_a_thing_both_succeed(
    control: Control, postgres_url: str, verb: Callable[[Control, str], None], table: Table
) -> None:
    both, met, errors = threading.Barrier(2, timeout=20), threading.local(), []

    def before(connection: object, cursor: object, statement: str, *_: Any) -> None:
        """Neither adds the row before both have seen that there is none."""
        if statement.startswith(f"INSERT INTO {table.name} ") and not hasattr(met, "once"):
            met.once = True
            both.wait()

    def act(by: str) -> None:
        try:
            verb(control, by)
        except Exception as error:
            errors.append(error)

    event.listen(Engine, "before_cursor_execute", before)
    try:
        threads = [threading.Thread(target=act, args=(by,)) for by in ("ann", "bob")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    finally:
        event.remove(Engine, "before_cursor_execute", before)
    assert errors == []
    assert not both.broken
    database = Database(postgres_url)
    with database.read() as connection:
        assert len(connection.execute(select(table)).all()) == 1
    database.close()


def test_a_queue_is_cleaned_to_its_end_though_a_job_is_retried_meanwhile(
    control: Control, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = open_ledger(postgres_url, road="rabbitmq").session("test")
    worker = join(session)
    jobs = [new_job() for _ in range(8)]
    for job in jobs:
        run(session, worker, job, Outcome.FAILED)
    session.close()
    retried: list[str] = []

    def late(tx: Transaction, ids: list[str]) -> list[Locked]:
        if ids and not retried:  # listed, and not locked yet
            retried.append(retry(control, ids[1], by="bob"))
        return lock_ids(tx, ids)

    monkeypatch.setattr(queues, "_BATCH", 3)
    monkeypatch.setattr(queues, "lock_ids", late)
    assert queues.clean(control, "letters", State.FAILED, by="ann") == 7
    database = Database(postgres_url)
    with database.read() as connection:
        assert list(connection.scalars(select(t.jobs.c.id))) == retried
    database.close()

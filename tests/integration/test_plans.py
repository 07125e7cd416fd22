"""The hot statements on a million jobs and as many dead rows: by index, analysed or not."""

import json
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from ledger import open_ledger
from ledger.migrate import Migrations
from ledger.postgres.connection import Connection
from ledger.records import Finish, Keep, NewJob, Ticket, Verdict
from ledger.statements import statements
from ledger.states import Outcome
from tests.ledger_under_test import new_job
from tests.servers import Postgres

_HOT = [
    "asked",
    "checkpoint",
    "backlog",
    "set_expiries",
    "drop_expiries",
    "any_expired",
    "expire",
    "lock_keys",
    "holders",
    "known",
    "replace",
    "take_keys",
    "drop_keys_of",
    "lock_passed_keys",
    "drop_keys",
    "leave_keys",
    "claim",
    "lock_gates",
    "rooms",
    "lock_entering",
    "enter",
    "block",
    "let_in",
    "unblock",
    "join_lines",
    "heads",
    "wake",
    "any_looks",
    "take_looks",
    "survey",
    "look",
    "drop_idle_gates",
    "drop_lines",
    "drop_checkpoints",
    "enqueue",
    "fence",
    "finish",
    "finish_completed",
    "finished_before",
    "finished_queues",
    "kept",
    "lock_finished",
    "lock_schedules",
    "archive",
    "drop_jobs",
    "drop_payloads",
    "drop_tickets",
    "expire_journal",
    "expire_results",
    "expire_ticks",
    "expire_workers",
    "mark",
    "next_due",
    "old_history",
    "over_dead",
    "over_done",
    "overtake",
    "owned",
    "park",
    "past_states",
    "progress",
    "promote",
    "release",
    "rescue",
    "resend",
    "take",
    "unready",
    "cancel_flow_jobs",
    "count_flow_results",
    "due_flows",
    "end_flow_jobs",
    "expire_flows",
    "flow_items",
    "flow_results",
    "flow_steps",
    "flow_value",
    "hire",
    "keep_flow_values",
    "lock_flow",
    "lock_flow_jobs",
    "lost_flow_jobs",
    "move_flow",
    "same_flow",
    "tally_flow_step",
    "write_flow_step",
]
_LARGE = {
    "expiries",
    "gates",
    "slots",
    "blocked",
    "lines",
    "uniques",
    "jobs",
    "tickets",
    "claims",
    "payloads",
    "attempts",
    "history",
    "results",
    "progress",
    "checkpoints",
    "journal",
    "flow",  # what begins with it
    "flows",
}
#: Walked in their order until there is enough: no condition needed.
_WALKED = {
    "jobs_done",
    "jobs_dead",
    "tickets_due",
    "tickets_ready",
    "uniques_until",
    "expiries_at",
    "flow_steps_due",
    "gates_look",
    "gates_pkey",
}

_FILL = """
CREATE TEMPORARY TABLE made AS
SELECT n, ('01900000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid AS id, 'queue-' || n % 10 AS queue, CASE
    WHEN n % 10 = 0 THEN 'completed' WHEN n % 50 = 1 THEN 'failed' WHEN n % 10 = 2 THEN 'delayed'
    WHEN n % 1000 = 3 THEN 'active' ELSE 'waiting' END AS state
FROM generate_series(1, 1000000) AS n;
INSERT INTO jobs (id, queue, actor, priority, state, epoch, reason, created_at, run_at, finished_at)
SELECT id, queue, 'act', 3, state, 1, CASE state WHEN 'failed' THEN 'refused' END, now(), now() + n * interval '1 ms',
  CASE WHEN state IN ('completed', 'failed') THEN now() - n * interval '1 ms' END FROM made;
INSERT INTO payloads (job_id, message_id, body) SELECT id, id, '{}' FROM made;
INSERT INTO tickets (job_id, queue, priority, ticket, ready, due_at)
SELECT id, queue, 3, 1, n % 20 = 4, now() + n * interval '1 ms' FROM made WHERE state = 'delayed' OR n % 20 = 4;
INSERT INTO workers (host, pid, state, queues, threads, version, started_at, heartbeat_at)
SELECT 'h', n, CASE WHEN n % 2 = 0 THEN 'running' ELSE 'stopped' END, '[]', 1, '1', now(), now()
FROM generate_series(1, 1000) AS n;
INSERT INTO claims (worker_id, job_id, epoch, ticket, suspect, claimed_at)
SELECT 2, id, 1, 1, false, now() FROM made WHERE state = 'active';
"""
_DEAD_ROWS = (
    "UPDATE jobs SET attempts = attempts + 1; UPDATE tickets SET priority = priority; UPDATE claims SET epoch = 1"
)


@pytest.fixture(scope="module")
def million(postgres: Postgres) -> Iterator[str]:
    postgres.start()
    url = postgres.create_database()
    Migrations(url).upgrade()
    with psycopg.connect(url, autocommit=True) as connection:
        for table in ("jobs", "tickets", "claims"):
            connection.execute(f"ALTER TABLE {table} SET (autovacuum_enabled = off)")
        for statement in filter(str.strip, (_FILL + _DEAD_ROWS).split(";")):
            connection.execute(statement)
    yield url
    postgres.drop_database(url)


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


def faults(connection: psycopg.Connection[Any], name: str) -> list[str]:
    """The scans in this statement's generic plan that would read a large table, or an index of it, as a whole."""
    query = statements("postgres")[name]
    parameters = max((int(n) for n in re.findall(r"\$(\d+)", query)), default=0)
    connection.execute(f"PREPARE {name} AS {query}")
    arguments = f"({', '.join(['NULL'] * parameters)})" if parameters else ""
    [(plan,)] = connection.execute(f"EXPLAIN (FORMAT JSON) EXECUTE {name}{arguments}").fetchall()
    connection.execute(f"DEALLOCATE {name}")
    found = []
    for node in nodes((json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"]):
        kind, index = node["Node Type"], node.get("Index Name", "")
        large = node.get("Relation Name") in _LARGE or index.partition("_")[0] in _LARGE
        if kind == "Seq Scan" and large:
            found.append(f"{kind} on {node['Relation Name']}")
        if "Index" in kind and large and "Index Cond" not in node and index not in _WALKED:
            found.append(f"{kind} of all of {index}")
    return found


def test_claims_leave_the_indexes_alone(postgres_url: str) -> None:
    """HOT: an update that changes no indexed column and finds room on its page writes no index entry."""
    session = open_ledger(postgres_url, road="rabbitmq").session("hot")
    worker = session.join(host="h", pid=1, queues=["q"], threads=1, version="1")
    made: list[NewJob] = [new_job() for _ in range(2000)]
    session.enqueue(made)
    for n in range(0, 2000, 16):
        session.claim(worker, [Ticket(job.id, 1, "q") for job in made[n : n + 16]])
    session.close()  # a backend that ends hands in its statistics
    updated = hot = 0
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        deadline = time.monotonic() + 10
        while updated < 2000 and time.monotonic() < deadline:
            [(updated, hot)] = connection.execute(
                "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'jobs'"
            ).fetchall()
            time.sleep(0.01)
    assert updated == 2000
    assert hot > 0.9 * updated


def faulty_plans(url: str, analysed: bool) -> dict[str, list[str]]:
    if analysed:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("ANALYZE")
    session = Connection(url, "plans", shown="")
    found = session.call(lambda cursor: {name: faults(cursor.connection, name) for name in _HOT})
    session.close()
    return {name: wrong for name, wrong in found.items() if wrong}


@pytest.mark.parametrize("analysed", [False, True], ids=["never analysed", "analysed"])
def test_no_hot_statement_reads_a_table_as_a_whole(million: str, analysed: bool) -> None:
    assert faulty_plans(million, analysed) == {}


@pytest.mark.parametrize("analysed", [False, True], ids=["never analysed", "analysed"])
def test_nor_would_one_whose_plan_was_made_when_the_tables_were_empty(postgres_url: str, analysed: bool) -> None:
    assert faulty_plans(postgres_url, analysed) == {}


@pytest.mark.prove  # by the clock
def test_a_batch_among_a_million_costs_milliseconds(million: str) -> None:
    session = open_ledger(million, road="rabbitmq").session("plans")
    worker = session.join(host="h", pid=1, queues=["queue-5"], threads=1, version="1")
    with psycopg.connect(million) as connection:
        rows = connection.execute("SELECT id::text FROM jobs WHERE queue = 'queue-5' AND state = 'waiting' LIMIT 160")
        ids = [id for (id,) in rows]
    batches = iter([ids[n : n + 16] for n in range(0, 160, 16)])

    def claim_and_finish() -> None:
        answers = session.claim(worker, [Ticket(id, 1, "queue-5") for id in next(batches)])
        assert {x.verdict for x in answers} == {Verdict.RUN}
        session.finish(worker, [Finish(x.id, x.epoch, Outcome.COMPLETED) for x in answers])

    def retain() -> None:
        session.retain({"queue-0": Keep(completed=100)}, Keep(10**6, 1e9, 10**6, 1e9), history_s=3600, limit=16)

    fastest = {
        "claim and finish": min(seconds(claim_and_finish) for _ in range(10)),
        "take": min(seconds(lambda: session.take(worker, {"queue-4": 16})) for _ in range(3)),
        "promote": min(seconds(lambda: session.promote(16, resend_after_s=5)) for _ in range(3)),
        "rescue": min(seconds(lambda: session.rescue(3600)) for _ in range(3)),
        "mark": min(seconds(lambda: session.mark([(id, 1) for id in ids[:16]])) for _ in range(3)),
        "retain": min(seconds(retain) for _ in range(3)),
    }
    session.close()
    # Reading a million rows takes 200 ms and more on any machine.
    assert {name: took for name, took in fastest.items() if took > 0.15} == {}


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start

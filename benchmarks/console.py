"""What the console's questions cost in a ledger of millions of jobs.

    python -m benchmarks.console [--jobs 5000000] [--rounds 20] [--only WORD]

The jobs are made by the database itself, on a private PostgreSQL: a month of them, a backlog of some hundred thousand
in the hot table, dead letters, attempts, statistics, and the words of the last week.  Each question is asked with
several values that a person might choose, common and rare; the figure is the whole time of ``Queries``.
"""

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import partial
from itertools import cycle, islice
from typing import Any, NamedTuple

import psycopg

from errors import QuestionTooSlow
from ledger.migrate import Migrations
from ledger.queries import Queries
from ledger.scope import Scope
from ledger.search import Filter, parse
from tests.servers import Postgres

#: Milliseconds that the 95th percentile may take.
LIST_MS, OVERVIEW_MS = 300.0, 500.0

_MADE = """
CREATE FUNCTION pg_temp.id_of(at timestamptz, n bigint) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
  SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '70008' || lpad(to_hex(n), 15, '0'))::uuid
$$;
CREATE UNLOGGED TABLE made AS
SELECT n, pg_temp.id_of(at, n) AS id, at,
  'queue-' || (CASE WHEN n % 3 = 0 THEN 0 ELSE n % 20 END) AS queue,
  CASE WHEN n % 1000003 = 7 THEN 'rare' ELSE 'actor-' || n % 40 END AS actor,
  1 + (CASE WHEN n % 1000003 = 7 THEN 998 ELSE n % 50 END) AS worker,
  CASE WHEN n > %(jobs)s - %(hot)s THEN
    CASE WHEN n % 100 < 70 THEN 'waiting' WHEN n % 100 < 90 THEN 'delayed' WHEN n % 1000 = 999 THEN 'active'
      WHEN n % 100 < 95 THEN 'completed' WHEN n % 100 < 98 THEN 'failed' ELSE 'waiting' END
  WHEN n % 100 < 96 THEN 'completed' WHEN n % 100 < 99 THEN 'failed' ELSE 'cancelled' END AS state,
  convert_to(json_build_object('actor_name', 'actor-' || n % 40, 'args', json_build_array(n), 'kwargs',
    json_build_object('customer', n % 5000, 'to', 'person' || n % 100000 || '@example.org'))::text, 'UTF8') AS body
FROM (SELECT n, now() - interval '30 days' * (1 - n::float8 / %(jobs)s) AS at FROM generate_series(1, %(jobs)s) n) AS x;
INSERT INTO history (id, message_id, queue, actor, priority, state, reason, attempts, crashes, created_at, run_at,
  finished_at, producer, body, archived_at)
SELECT id, id, queue, actor, 3, state, CASE state WHEN 'failed' THEN 'retries_exhausted' END, 1, 0, at, at,
  at + interval '2 seconds', 'bench', body, at + interval '1 hour'
FROM made WHERE n <= %(jobs)s - %(hot)s;
INSERT INTO jobs (id, queue, actor, priority, state, attempts, epoch, reason, created_at, run_at, finished_at)
SELECT id, queue, actor, 3, state, n % 2, 1, CASE state WHEN 'failed' THEN 'retries_exhausted' END, at, at,
  CASE WHEN state IN ('completed', 'failed') THEN at + interval '2 seconds' END
FROM made WHERE n > %(jobs)s - %(hot)s;
INSERT INTO payloads (job_id, message_id, body) SELECT id, id, body FROM made WHERE n > %(jobs)s - %(hot)s;
INSERT INTO tickets (job_id, queue, priority, ticket, ready, due_at)
SELECT id, queue, 3, 1, false, at + interval '1 day' FROM made WHERE n > %(jobs)s - %(hot)s AND state = 'delayed';
INSERT INTO claims (worker_id, job_id, epoch, ticket, suspect, claimed_at)
SELECT worker, id, 1, 1, false, now() FROM made WHERE state = 'active';
INSERT INTO workers (host, pid, state, queues, threads, version, started_at, heartbeat_at)
SELECT 'host-' || n % 10, n, CASE WHEN n <= 50 THEN 'running' ELSE 'stopped' END, '[]', 8, '1', now(), now()
FROM generate_series(1, 1000) AS n;
INSERT INTO attempts (job_id, epoch, number, outcome, worker_id, started_at, finished_at, error_type, error_message)
SELECT id, 1, 1, state, worker, at + interval '1 second', at + interval '1 second' + n % 900 * interval '1 ms',
  CASE state WHEN 'failed' THEN 'shop.Refused' END, CASE state WHEN 'failed' THEN 'card ' || n || ' was refused' END
FROM made WHERE state IN ('completed', 'failed', 'cancelled');
INSERT INTO failures (job_id, fingerprint, queue, actor, at)
SELECT id, 'group-' || (CASE WHEN n % 7 = 0 THEN n % 2000 ELSE n % 20 END), queue, actor, at + interval '2 seconds'
FROM made WHERE state = 'failed';
INSERT INTO failure_groups (fingerprint, error_type, frame, message, first_at)
SELECT DISTINCT fingerprint, 'shop.Refused', 'actors/pay.py in charge', 'card <n> of ' || fingerprint, now()
FROM failures;
INSERT INTO search_texts (job_id, words)
SELECT id, array_to_tsvector(ARRAY['actor', actor, 'customer=' || n % 5000, n % 5000 || '', 'person' || n % 100000,
  'example', 'org', 'to=person' || n % 100000 || '@example.org', '0=' || n])
FROM made WHERE at > now() - interval '7 days';
INSERT INTO tallies SELECT 60, date_trunc('minute', now()) - m * interval '1 minute', 'queue-' || g % 20,
  'actor-' || g, o, 10, 5, 1, {parts}
FROM generate_series(0, 2880) m, generate_series(0, 39) g, (VALUES ('completed'), ('failed'), ('retrying')) x(o);
INSERT INTO tallies SELECT 600, to_timestamp(floor(extract(epoch FROM now()) / 600) * 600) - m * interval '10 minutes',
  'queue-' || g % 20, 'actor-' || g, o, 100, 50, 10, {parts}
FROM generate_series(0, 288) m, generate_series(0, 39) g, (VALUES ('completed'), ('failed'), ('retrying')) x(o);
INSERT INTO tallies SELECT 3600, date_trunc('hour', now()) - h * interval '1 hour', 'queue-' || g % 20,
  'actor-' || g, o, 600, 300, 60, {parts}
FROM generate_series(0, 720) h, generate_series(0, 39) g, (VALUES ('completed'), ('failed'), ('retrying')) x(o);
DROP TABLE made
"""


#: Pages of jobs, each asked for with values that are common and some that are rare.
SEARCHES = {
    "all": [""],
    "a state": [f"state:{state}" for state in ("failed", "active", "delayed", "cancelled")],
    "a queue": ["queue:queue-0", "queue:queue-7", "queue:none", "queue:queue-1*"],
    "queue and state": ["queue:queue-7 state:failed", "queue:queue-1* state:failed,cancelled"],
    "an actor": ["actor:actor-3", "actor:rare", "actor:rare state:failed", "actor:nobody"],
    "a reason": ["reason:retries_exhausted", "reason:poison"],
    "a time": ["since:1h", "until:20d state:failed", "since:3d until:2d queue:queue-3"],
    "a worker": ["worker:7", "worker:999", "worker:7 state:failed"],
    "an error": ["error:refused", "error:group-1999", "fingerprint:group-3"],
    "words": ["person77", "actor org", "args.customer:42", "args.customer:42 state:failed", "nowhere"],
}


class Asked(NamedTuple):
    what: str
    limit_ms: float
    p50: float
    p95: float
    worst: str  #: of the values it was asked with


def fill(url: str, count: int) -> float:
    """Make the jobs; returns how many seconds it took.  Indexes are made after the rows."""
    began = time.monotonic()
    hot = min(300_000, count // 5)
    made = _MADE.format(parts=", ".join(["1"] * 40)).replace("%(jobs)s", str(count)).replace("%(hot)s", str(hot))
    with psycopg.connect(url, autocommit=True) as connection:
        for setting in ("synchronous_commit = off", "maintenance_work_mem = '512MB'", "work_mem = '256MB'"):
            connection.execute(f"SET {setting}")
        indexes = connection.execute(
            "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' AND indexname NOT LIKE '%_pkey' "
            "AND tablename IN ('history', 'jobs', 'attempts', 'failures', 'search_texts', 'payloads', 'tallies')"
        ).fetchall()
        for name, _ in indexes:
            connection.execute(f"DROP INDEX {name}")
        for statement in made.split(";\n"):
            connection.execute(statement)
        for _, definition in indexes:
            connection.execute(definition)
        connection.execute("VACUUM ANALYZE")
    return time.monotonic() - began


Question = tuple[str, Callable[[], object]]


def questions(queries: Queries) -> Iterator[tuple[str, float, list[Question]]]:
    """Name, limit, and what is asked in turn."""

    def of(ask: Callable[[Filter], object], *texts: str) -> list[Question]:
        return [(text, partial(ask, parse(text))) for text in texts]

    def later(wanted: Filter) -> object:
        return queries.search(wanted, after=places[wanted])

    deep = [parse(text) for text in ("", "state:failed", "queue:queue-7")]
    places = {wanted: queries.search(wanted, limit=5_000).after for wanted in deep}
    newest = queries.search(Filter(), limit=10).jobs
    now = queries.database_time()
    windows = [(f"{hours} h", now - timedelta(hours=hours)) for hours in (1, 6, 24, 168)]
    for what, texts in SEARCHES.items():
        yield f"jobs: {what}", LIST_MS, of(queries.search, *texts)
    yield "jobs: an id", LIST_MS, of(queries.search, *(f"id:{job.id}" for job in newest[:3]))
    yield "jobs: a later page", LIST_MS, [(wanted.words(), partial(later, wanted)) for wanted in deep]
    yield "jobs: counts of the tabs", LIST_MS, of(queries.count_states, "", "queue:queue-7", "actor:rare")
    yield (
        "jobs: one count",
        LIST_MS,
        of(queries.count, "state:failed", "worker:7", "fingerprint:group-3", "person77"),
    )
    yield "one job", LIST_MS, [(job.id, partial(queries.job, job.id)) for job in newest]
    yield "suggestions", LIST_MS, [(n, queries.within(Scope.of([n])).suggestions) for n in ("*", "queue-1*")]
    groups: list[Question] = [(w, partial(queries.failures, since=since)) for w, since in windows]
    groups.append(("one", partial(queries.failures, fingerprint="group-3", since=windows[-1][1])))
    yield "failures", LIST_MS, groups
    yield "series", LIST_MS, [(w, partial(queries.series, since=since)) for w, since in windows]
    yield "job types", LIST_MS, [(w, partial(queries.performance, since=since)) for w, since in windows]
    for name in ("queue_stats", "queues", "workers", "operations"):
        yield name, LIST_MS, [("", getattr(queries, name))]
    yield "overview", OVERVIEW_MS, [("", queries.overview), ("queue-1*", queries.within(Scope(("queue-1*",))).overview)]


def ask(queries: Queries, rounds: int, only: str = "") -> Iterator[Asked]:
    """Each question, its values in turn, the first time of each left out: the caches are warm, as a console's are."""
    for what, limit_ms, asked in questions(queries):
        if only not in what:
            continue
        for _, question in asked:
            _took_ms(question)
        turns = islice(cycle(asked), max(rounds, len(asked)))
        took = [(_took_ms(question), text) for text, question in turns]
        times = sorted(ms for ms, _ in took)
        p95 = times[math.ceil(0.95 * len(times)) - 1]
        yield Asked(what, limit_ms, statistics.median(times), p95, max(took)[1])


def _took_ms(question: Callable[[], object]) -> float:
    began = time.perf_counter()
    with suppress(QuestionTooSlow):  # it took as long as it may, which is over every limit
        question()
    return (time.perf_counter() - began) * 1000


@contextmanager
def ledger_of(count: int) -> Iterator[tuple[str, float]]:
    """A private ledger with so many jobs, and how many seconds it took to make."""
    server = Postgres({"shared_buffers": "512MB", "max_wal_size": "8GB", "effective_cache_size": "2GB"})
    server.start()
    try:
        url = server.create_database()
        Migrations(url).upgrade()
        yield url, fill(url, count)
    finally:
        server.remove()


def main(arguments: list[str] | None = None) -> int:
    options = argparse.ArgumentParser(prog="python -m benchmarks.console")
    options.add_argument("--jobs", type=int, default=5_000_000)
    options.add_argument("--rounds", type=int, default=20)
    options.add_argument("--only", default="", help="questions with this in their name")
    chosen = options.parse_args(arguments)
    slow = 0
    with ledger_of(chosen.jobs) as (url, took_s):
        print(f"{chosen.jobs:,} jobs made in {took_s:.0f} s", flush=True)
        queries = Queries(url)
        for asked in ask(queries, chosen.rounds, chosen.only):
            over = asked.p95 > asked.limit_ms
            slow += over
            told: dict[str, Any] = asked._asdict() | {"p50": round(asked.p50, 1), "p95": round(asked.p95, 1)}
            print(json.dumps(told) + ("  <-- too slow" if over else ""), flush=True)
        queries.close()
    return int(bool(slow))


if __name__ == "__main__":
    sys.exit(main())

"""Every list of the console within its time, over five million jobs."""

from benchmarks.console import ask, ledger_of
from ledger.queries import Queries

JOBS = 5_000_000


def test_every_list_of_five_million_jobs_keeps_its_time() -> None:
    with ledger_of(JOBS) as (url, took_s):
        print(f"{JOBS:,} jobs made in {took_s:.0f} s")
        queries = Queries(url)
        answers = list(ask(queries, rounds=20))
        queries.close()
    for asked in answers:
        print(f"{asked.what}: p50 {asked.p50:.1f} ms, p95 {asked.p95:.1f} ms, slowest with {asked.worst!r}")
    assert [asked for asked in answers if asked.p95 > asked.limit_ms] == []

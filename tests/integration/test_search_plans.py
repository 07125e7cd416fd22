"""What lists of jobs ask PostgreSQL: by index, and no more than a page of it."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import event

from benchmarks.console import SEARCHES, fill
from ledger.migrate import Migrations
from ledger.queries import Queries
from ledger.search import parse
from tests.integration.test_plans import nodes
from tests.servers import Postgres

pytestmark = pytest.mark.prove

#: Read as a whole, these would take seconds.
_LARGE = {"history", "attempts", "payloads", "search_texts", "failures"}


@pytest.fixture(scope="module")
def filled(postgres: Postgres) -> Iterator[str]:
    postgres.start()
    url = postgres.create_database()
    Migrations(url).upgrade()
    fill(url, 60_000)
    yield url
    postgres.drop_database(url)


def plans(queries: Queries, query: str) -> Iterator[dict[str, Any]]:
    """Of every statement that the search is made of."""
    asked: list[tuple[str, Any]] = []
    engine = queries._database._open()

    def told(connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        asked.append((statement, parameters))

    event.listen(engine, "before_cursor_execute", told)
    queries.search(parse(query))
    event.remove(engine, "before_cursor_execute", told)
    with queries._database.read() as connection:
        # A table of some thousand rows is read faster as a whole; of five million it would not be.
        connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        for statement, parameters in asked:
            if statement.lstrip().startswith(("SELECT", "WITH")):
                [(plan,)] = connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {statement}", parameters).fetchall()
                yield (json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"]


@pytest.mark.parametrize("query", [query for queries in SEARCHES.values() for query in queries])
def test_no_list_of_jobs_reads_a_table_as_a_whole(filled: str, query: str) -> None:
    queries = Queries(filled)
    read = [
        node["Relation Name"]
        for plan in plans(queries, query)
        for node in nodes(plan)
        if node["Node Type"] == "Seq Scan" and node["Relation Name"] in _LARGE
    ]
    queries.close()
    assert read == []

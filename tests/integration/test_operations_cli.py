"""``hareline jobs ls``, ``failures`` and ``operations``, on both databases."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from cli import main
from cli.exits import Exit
from ledger.bookkeeping import Bookkeeping
from ledger.records import NewJob
from ledger.states import Outcome
from tests.ledger_under_test import LedgerUnderTest


@pytest.fixture
def dead(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[NewJob]]:
    """Three dead letters of one group, and a delayed job."""
    monkeypatch.setenv("DATABASE_URL", database_url)
    ledger = LedgerUnderTest(database_url, "embedded")
    jobs = []
    for n in range(3):
        job, epoch = ledger.active(body=b'{"args": [1], "kwargs": {"token": "t0p"}}')
        ledger.finish(job, epoch, Outcome.FAILED, error_type="shop.Refused", error_message=f"card \x1b[31m {n}")
        jobs.append(job)
    ledger.enqueue(queue="other", delay_ms=60_000)
    books = Bookkeeping(database_url)
    books.group()
    books.close()
    yield jobs
    ledger.close()


def hareline(*words: str) -> Result:
    return CliRunner().invoke(main, list(words))


def answer(*words: str) -> Any:
    result = hareline(*words, "--json")
    assert result.exit_code == Exit.OK, result.output
    return json.loads(result.stdout)


def test_jobs_are_found_by_a_query_page_by_page(dead: list[NewJob]) -> None:
    rows = answer("jobs", "ls", "state:failed", "queue:q*")
    assert [row["id"] for row in rows] == [job.id for job in reversed(dead)]
    assert rows[0]["args"] == '1, token="[redacted]"'
    first = hareline("jobs", "ls", "state:failed", "--limit", "2", "--json")
    cursor = first.stderr.split()[-1]
    assert [row["id"] for row in answer("jobs", "ls", "state:failed", "--after", cursor)] == [dead[0].id]
    assert answer("jobs", "ls", "--count") == {
        "delayed": {"count": 1, "more": False},
        "failed": {"count": 3, "more": False},
    }
    refused = hareline("jobs", "ls", "sate:failed")
    assert refused.exit_code == Exit.USAGE
    assert "did you mean 'state'" in refused.stderr
    lines = [json.loads(line) for line in hareline("jobs", "export", "state:failed").stdout.splitlines()]
    assert [line["id"] for line in lines] == [job.id for job in reversed(dead)]
    heading, *rest = hareline("jobs", "export", "--csv", "--limit", "2").stdout.splitlines()
    assert heading.startswith("id,message_id,queue")
    assert len(rest) == 2


def test_a_group_of_failures_is_shown_hidden_and_retried(dead: list[NewJob]) -> None:
    [group] = answer("failures", "ls")
    assert (group["error_type"], group["count"]) == ("shop.Refused", 3)
    shown = hareline("failures", "show", group["fingerprint"])
    assert shown.exit_code == Exit.OK
    assert "\x1b" not in shown.stdout
    assert "3 in the last 30d, open" in shown.stdout
    assert hareline("failures", "ack", group["fingerprint"]).exit_code == Exit.OK
    assert answer("failures", "ls") == []
    assert [x["state"] for x in answer("failures", "ls", "--hidden")] == ["acknowledged"]
    assert hareline("failures", "snooze", group["fingerprint"], "--for", "2h").exit_code == Exit.OK
    assert hareline("failures", "retry", group["fingerprint"]).exit_code == Exit.USAGE  # nobody can be asked
    done = answer("failures", "retry", group["fingerprint"], "--yes")
    assert (done["state"], done["done"]) == ("done", 3)
    assert hareline("failures", "show", group["fingerprint"]).exit_code == Exit.NOT_FOUND


def test_an_operation_is_tried_begun_left_to_workers_and_cancelled(dead: list[NewJob]) -> None:
    assert "would be done to 3 jobs" in hareline("operations", "start", "retry", "queue:q", "--dry-run").stdout
    assert answer("operations", "ls") == []
    drifted = hareline("operations", "start", "retry", "queue:q", "--expect", "9", "--yes")
    assert drifted.exit_code == Exit.ILLEGAL
    begun = answer("operations", "start", "run-now", "queue:other", "--detach", "--yes")
    assert begun["state"] == "running"
    assert [row["id"] for row in answer("operations", "ls", "--open")] == [begun["id"]]
    assert answer("operations", "cancel", begun["id"])["state"] == "cancelled"
    assert "is cancelled: 0 of 1 jobs" in hareline("operations", "watch", begun["id"]).stdout
    done = answer("operations", "start", "discard", "state:failed", "--expect", "3", "--yes")
    assert (done["done"], done["failed"]) == (3, 0)
    assert hareline("operations", "show", dead[0].id).exit_code == Exit.NOT_FOUND
    assert hareline("operations", "start", "retry", " ", "--yes").exit_code == Exit.USAGE


def test_a_delayed_job_runs_now(dead: list[NewJob]) -> None:
    [delayed] = answer("jobs", "ls", "state:delayed")
    assert hareline("jobs", "run-now", delayed["id"]).exit_code == Exit.OK
    assert hareline("jobs", "run-now", delayed["id"]).exit_code == Exit.ILLEGAL
    assert hareline("jobs", "run-now", dead[0].id).exit_code == Exit.ILLEGAL
    assert [row["id"] for row in answer("jobs", "ls", "state:waiting")] == [delayed["id"]]

import gzip
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import fsspec
import pytest
from sqlalchemy import func, insert, select

from actors.extras import MissingExtra
from actors.maintenance import cleanup_audit_log
from control import Control, jobs
from errors import Discard, Failure
from ledger.archive import Archive
from ledger.engine import Database
from ledger.tables import attempts, history, journal


def finished(url: str, days_ago: Sequence[float], body: bytes = b"{}", state: str = "completed") -> list[str]:
    """Put one job into the history for each; returns their ids."""
    database = Database(url)
    now = datetime.now(UTC)
    ids = [f"00000000-0000-7000-8000-{number:012}" for number in range(len(days_ago))]
    with database.write() as connection:
        for id, days in zip(ids, days_ago, strict=True):
            at = now - timedelta(days=days)
            names = {"id": id, "message_id": id, "queue": "q", "actor": "a", "priority": 3, "state": state}
            counts = {"attempts": 1, "crashes": 0, "producer": "test", "body": body}
            times = dict.fromkeys(("created_at", "run_at", "finished_at", "archived_at"), at)
            connection.execute(insert(history).values(**names, **counts, **times))
            told = {"job_id": id, "outcome": "completed", "worker_id": 1, "started_at": at, "finished_at": at}
            connection.execute(insert(attempts).values(epoch=1, number=1, **told))
            connection.execute(insert(journal).values(job_id=id, at=at, event="resent", actor="x", detail=""))
    database.close()
    return ids


def left(url: str) -> tuple[set[str], int, int]:
    """Ids in the history; how many attempts and journal lines there are."""
    database = Database(url)
    with database.read() as connection:
        ids = set(connection.scalars(select(history.c.id)))
        counts = [connection.scalar(select(func.count()).select_from(table)) or 0 for table in (attempts, journal)]
    database.close()
    return ids, counts[0], counts[1]


@pytest.fixture
def folder(tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the archive goes; the actor's settings are this test's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("HARELINE_ARCHIVE_DIR", str(tmp_path / "archive"))
    return tmp_path / "archive"


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for path in folder.glob("*.jsonl.gz") for line in gzip.open(path, "rt")]


def test_old_jobs_move_from_the_history_to_a_file_and_young_ones_stay(folder: Path, database_url: str) -> None:
    ids = finished(database_url, [40] * 501 + [31, 29, 1], body=b'{"args": ["\xc3\xa4"]}')
    cleanup_audit_log.fn()
    archived = lines(folder)
    assert [job["id"] for job in archived] == ids[:502]
    assert archived[0]["body"] == '{"args": ["ä"]}'
    assert [attempt["outcome"] for attempt in archived[0]["attempts"]] == ["completed"]
    assert [line["event"] for line in archived[0]["journal"]] == ["resent"]
    assert left(database_url) == (set(ids[502:]), 2, 2)


def test_the_archive_may_be_in_an_object_store(
    folder: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = fsspec.filesystem("memory")
    monkeypatch.setenv("HARELINE_ARCHIVE_DIR", f"memory://archive/{folder}/")
    ids = finished(database_url, [40] * 501)
    cleanup_audit_log.fn()
    first, second = sorted(store.find(f"/archive/{folder}"))
    assert first.endswith("-000001.jsonl.gz")
    kept = [json.loads(line) for path in (first, second) for line in gzip.decompress(store.cat(path)).splitlines()]
    assert [job["id"] for job in kept] == ids
    assert left(database_url) == (set(), 0, 0)


def test_what_a_store_does_not_take_is_not_deleted(
    folder: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = finished(database_url, [40])
    monkeypatch.setenv("HARELINE_ARCHIVE_DIR", "gs://archive")
    with pytest.raises(MissingExtra, match="gcsfs"):
        cleanup_audit_log.fn()
    monkeypatch.setenv("HARELINE_ARCHIVE_DIR", "ftp://archive")
    with pytest.raises(Failure, match=r"'ftp://archive/history-.* is none of s3://"):
        cleanup_audit_log.fn()
    assert left(database_url)[0] == set(ids)


def test_a_second_run_finds_nothing_to_do(folder: Path, database_url: str) -> None:
    finished(database_url, [40])
    cleanup_audit_log.fn()
    cleanup_audit_log.fn()
    assert len(lines(folder)) == 1


def test_the_days_of_one_run_can_be_given_and_0_does_nothing(folder: Path, database_url: str) -> None:
    ids = finished(database_url, [3, 1])
    cleanup_audit_log.fn(0)
    assert not folder.exists()
    cleanup_audit_log.fn(2)
    assert left(database_url)[0] == {ids[1]}


@pytest.mark.parametrize("days", [-1, "7", True, 1.5])
def test_days_that_are_no_number_of_days_are_refused_without_retries(folder: Path, days: Any) -> None:
    with pytest.raises(Discard, match="retention_days"):
        cleanup_audit_log.fn(days)


def test_bytes_that_are_no_text_are_kept_too(folder: Path, database_url: str) -> None:
    finished(database_url, [40], body=b"\xff\x00")
    cleanup_audit_log.fn()
    assert lines(folder)[0]["body"] == {"base64": "/wA="}


def test_what_could_not_be_kept_is_not_deleted(database_url: str) -> None:
    ids = finished(database_url, [40, 40])
    archive = Archive(database_url)

    def full(jobs: Sequence[dict[str, Any]]) -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        archive.take(datetime.now(UTC), full)
    archive.close()
    assert left(database_url) == (set(ids), 2, 2)


def test_a_job_that_is_sent_round_again_while_it_is_archived_keeps_its_trail(database_url: str) -> None:
    again, _ = finished(database_url, [40, 40], state="failed")
    archive, control = Archive(database_url), Control(database_url, "embedded")

    def retried_meanwhile(taken: Sequence[dict[str, Any]]) -> None:
        jobs.retry(control, again, by="somebody")

    archive.take(datetime.now(UTC), retried_meanwhile)
    archive.close()
    control.close()
    assert left(database_url) == (set(), 1, 2), "its attempt, its journal, and the line of the retry"

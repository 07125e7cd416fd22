"""Data files read chunk by chunk, and pages kept warm."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from actors import data
from actors.cache import Warmed, cached, warmup_cache
from actors.data import process_data
from actors.database import database
from actors.datasets import keep
from actors.outside import NotConfigured, Unavailable
from actors.tables import dataset_rows
from errors import Failure
from hareline_testing import Hareline
from ledger.states import State
from tests.scripted import Answer, Scripted, cut_mid_body, respond, status


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    found = tmp_path / "data"
    found.mkdir()
    monkeypatch.setenv("HARELINE_DATA_DIR", str(found))
    monkeypatch.setattr(data, "CHUNK", 10)
    return found


def stored() -> list[Any]:
    with database().read() as connection:
        return list(connection.scalars(select(dataset_rows.c.row).order_by(dataset_rows.c.number)))


def test_a_file_is_read_once_and_what_cannot_be_read_is_named(actors_here: Any, folder: Path) -> None:
    lines = [json.dumps({"n": n}) for n in range(25)]
    lines[3] = "{broken"
    lines[7] = "[1]"
    (folder / "a.jsonl").write_text("\n".join(lines))

    first = process_data.fn("d1", "a.jsonl")
    assert (first.rows, first.rejects) == (23, 2)
    assert [text.partition(":")[0] for text in first.rejected] == ["line 4", "line 8"]
    assert stored() == [{"n": n} for n in range(25) if n not in (3, 7)]
    assert process_data.fn("d1", "a.jsonl") == first
    assert len(stored()) == 23


def test_a_table_is_read_by_its_header(actors_here: Any, folder: Path) -> None:
    (folder / "a.csv").write_text('name,says\nAda,"two\nlines"\nBob\nEve,"a ""word"""\n')
    found = process_data.fn("d1", "a.csv")
    assert (found.rows, found.rejected) == (2, ["line 4: 1 fields, and the header has 2"])
    assert stored() == [{"name": "Ada", "says": "two\nlines"}, {"name": "Eve", "says": 'a "word"'}]


@pytest.mark.parametrize("lines", [0, 10, 11, 20])
def test_whatever_the_number_of_lines_every_one_is_there(kit: Hareline, folder: Path, lines: int) -> None:
    (folder / "a.jsonl").write_text("".join(f'{{"n": {n}}}\n' for n in range(lines)))
    assert process_data.fn("d1", "a.jsonl").rows == lines == len(stored())


def test_an_attempt_goes_on_at_the_last_finished_chunk(actors_here: pytest.MonkeyPatch, folder: Path) -> None:
    (folder / "a.jsonl").write_text("".join(f'{{"n": {n}}}\n' for n in range(45)))
    kept: list[int] = []

    def breaking(state: Any, chunk: Any, *, last: bool) -> Any:
        kept.append(len(chunk))
        if len(kept) == 3:
            raise ConnectionError("the database went away")
        return keep(state, chunk, last=last)

    actors_here.setattr(data, "keep", breaking)
    with pytest.raises(ConnectionError):
        process_data.fn("d1", "a.jsonl")
    assert len(stored()) == 20
    process_data.fn("d1", "a.jsonl")
    assert kept == [10, 10, 10, 10, 10, 5]
    assert stored() == [{"n": n} for n in range(45)]


def test_files_that_are_not_there_outside_or_changed_are_refused(kit: Hareline, folder: Path) -> None:
    (folder / "a.jsonl").write_text('{"n": 1}\n')
    (folder / "a.parquet").write_text("PAR1")
    process_data.fn("d1", "a.jsonl")
    (folder / "a.jsonl").write_text('{"n": 1}\n{"n": 2}\n')
    for id, file, words in (
        ("d2", "b.jsonl", "there is no file 'b.jsonl'"),
        ("d2", "../../etc/passwd", "is outside of HARELINE_DATA_DIR"),
        ("d2", "/etc/passwd", "is outside of HARELINE_DATA_DIR"),
        ("d2", "a.parquet", "neither .csv nor .jsonl"),
        ("d1", "a.jsonl", "the file is another: take a new id"),
    ):
        with pytest.raises(Failure, match=words):
            process_data.fn(id, file)
    with database().read() as connection:
        assert connection.scalar(select(func.count()).select_from(dataset_rows)) == 1


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scripted]:
    with Scripted() as server:
        server.answer = page("one")
        monkeypatch.setenv("HARELINE_WARMUP_URLS", f"{server.url}/a {server.url}/b")
        monkeypatch.setenv("HARELINE_CACHE_DIR", str(tmp_path / "cache"))
        yield server


def page(tag: str) -> Answer:
    def answer(request: Any) -> None:
        unchanged = request.headers["If-None-Match"] == tag
        (status(304) if unchanged else respond(200, {"page": tag}, ETag=tag))(request)

    return answer


def test_pages_are_fetched_and_asked_for_again_by_their_tags(kit: Hareline, site: Scripted, tmp_path: Path) -> None:
    assert warmup_cache.fn() == Warmed(fetched=2)
    assert warmup_cache.fn() == Warmed(hits=2)
    site.answer = page("two")
    assert warmup_cache.fn([f"{site.url}/a"]) == Warmed(fetched=1)
    assert cached(f"{site.url}/a", tmp_path / "cache")["body"] == '{"page": "two"}'
    assert cached(f"{site.url}/b", tmp_path / "cache")["body"] == '{"page": "one"}'


def test_a_page_that_fails_is_named_and_the_one_that_is_kept_stays(
    kit: Hareline, site: Scripted, tmp_path: Path
) -> None:
    warmup_cache.fn()
    site.script = [cut_mid_body]
    done = warmup_cache.fn()
    assert done.hits == 1
    [(url, why)] = done.failed.items()
    assert "cannot be fetched" in why
    assert cached(url, tmp_path / "cache")["body"] == '{"page": "one"}'

    site.answer = status(500)
    with pytest.raises(Unavailable, match=r"no page could be fetched; the first: .* answered 500"):
        warmup_cache.fn()
    assert cached(f"{site.url}/a", tmp_path / "cache")["body"] == '{"page": "one"}'


def test_only_pages_of_our_own_servers_are_fetched(kit: Hareline, site: Scripted) -> None:
    with pytest.raises(Failure, match=r"'http://169\.254\.169\.254/' is on no server of HARELINE_WARMUP_URLS"):
        warmup_cache.fn(["http://169.254.169.254/"])
    assert site.requests == []


def test_without_pages_the_job_says_what_to_set(kit: Hareline) -> None:
    with pytest.raises(NotConfigured, match="HARELINE_WARMUP_URLS is not set"):
        warmup_cache.fn()


def test_the_schedule_warms_them_up_every_five_minutes(site: Scripted, kit: Hareline) -> None:
    sent = warmup_cache.send()
    assert kit.wait_for(sent).state is State.COMPLETED
    kit.advance(minutes=5)
    assert kit.drain("cache-warmup") == 1

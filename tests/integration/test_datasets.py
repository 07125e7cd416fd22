"""Data files read chunk by chunk: formats, places they come from, and where an attempt goes on."""

import gzip
import io
import json
import os
import resource
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import fsspec
import pyarrow
import pyarrow.parquet
import pytest
from sqlalchemy import func, select

from actors import data, lines, rows
from actors.addresses import Forbidden
from actors.data import process_data
from actors.database import database
from actors.datasets import keep
from actors.extras import MissingExtra
from actors.outside import Refused, Unavailable
from actors.sources import opened
from actors.tables import dataset_rows
from errors import Failure, RateLimited
from hareline_testing import Hareline
from ledger.states import State
from tests.fileserver import FileServer
from tests.scripted import cut_mid_body, respond, status

pytestmark = pytest.mark.one_database


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    found = tmp_path / "data"
    found.mkdir()
    monkeypatch.setenv("HARELINE_DATA_DIR", str(found))
    monkeypatch.setattr(data, "CHUNK", 10)
    return found


@pytest.fixture
def web(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    with FileServer() as server:
        monkeypatch.setenv("HARELINE_DATA_SOURCES", f"memory://shop/exports {server.url}/public")
        monkeypatch.setenv("HARELINE_WEBHOOK_NETWORKS", "127.0.0.1")
        yield server


def stored() -> list[Any]:
    with database().read() as connection:
        return list(connection.scalars(select(dataset_rows.c.row).order_by(dataset_rows.c.number)))


def json_lines(count: int) -> bytes:
    return "".join(f'{{"n": {n}}}\n' for n in range(count)).encode()


def table(count: int) -> bytes:
    return b"n,text\n" + b"".join(b'%d,"line\n%d"\n' % (n, n) for n in range(count))


def parquet(count: int, group: int = 7) -> bytes:
    written = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table({"n": list(range(count))}), written, row_group_size=group)
    return written.getvalue()


def zstd(text: bytes) -> bytes:
    return bytes(pyarrow.Codec("zstd").compress(text, asbytes=True))


# -- formats


def test_a_file_is_read_once_and_what_cannot_be_read_is_named(actors_here: Any, folder: Path) -> None:
    texts = [json.dumps({"n": n}) for n in range(25)]
    texts[3] = "{broken"
    texts[7] = "[1]"
    (folder / "a.jsonl").write_text("\n".join(texts))

    first = process_data.fn("d1", "a.jsonl")
    assert (first.rows, first.rejects) == (23, 2)
    assert [text.partition(":")[0] for text in first.rejected] == ["line 4", "line 8"]
    assert stored() == [{"n": n} for n in range(25) if n not in (3, 7)]
    assert process_data.fn("d1", "a.jsonl") == first
    assert len(stored()) == 23


def test_a_table_is_read_by_its_header(actors_here: Any, folder: Path) -> None:
    (folder / "a.csv").write_text('\ufeffname,says\nAda,"two\nlines"\nBob\nEve,"a ""word"""\n')
    found = process_data.fn("d1", "a.csv")
    assert (found.rows, found.rejected) == (2, ["line 4: 1 fields, and the header has 2"])
    assert stored() == [{"name": "Ada", "says": "two\nlines"}, {"name": "Eve", "says": 'a "word"'}]


def test_a_long_field_of_a_table_is_read_as_a_long_line_is(actors_here: Any, folder: Path) -> None:
    long = "x" * 140_000
    (folder / "a.csv").write_text(f"id,text\n1,ok\n2,{long}\n")
    (folder / "a.jsonl").write_text(json.dumps({"id": "2", "text": long}))
    assert [process_data.fn(name, name).rows for name in ("a.csv", "a.jsonl")] == [2, 1]
    assert stored()[1] == stored()[2] == {"id": "2", "text": long}


def test_a_row_group_without_rows_is_passed_over(actors_here: Any, folder: Path) -> None:
    rows = pyarrow.table({"n": [1, 2, 3]})
    with pyarrow.parquet.ParquetWriter(folder / "a.parquet", rows.schema) as writer:
        for part in (rows.slice(0, 0), rows, rows.slice(0, 0), rows, rows.slice(0, 0)):
            writer.write_table(part)
    groups = pyarrow.parquet.ParquetFile(folder / "a.parquet").metadata
    assert groups.num_row_groups > 2, "there are such groups"
    assert process_data.fn("d1", "a.parquet").rows == 6


def test_what_parquet_has_and_json_has_not_is_kept_as_text(actors_here: Any, folder: Path) -> None:
    at = datetime(2026, 11, 22, 9, tzinfo=UTC)
    columns = {
        "at": [at, at],
        "price": [Decimal("1.50"), None],
        "raw": [b"\x00\xff", b""],
        "ratio": [float("nan"), 0.5],
        "tags": [["a", "b"], []],
        "who": [{"name": "Ada\0"}, None],
    }
    pyarrow.parquet.write_table(pyarrow.table(columns), folder / "a.parquet")
    assert process_data.fn("d1", "a.parquet").rejects == 0
    first, second = stored()
    assert first == {
        "at": "2026-11-22T09:00:00+00:00",
        "price": "1.50",
        "raw": "00ff",
        "ratio": None,
        "tags": ["a", "b"],
        "who": {"name": "Ada\N{REPLACEMENT CHARACTER}"},
    }
    assert second["price"] is None


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ('{"n": NaN}', "NaN is no JSON"),
        ('{"n": 1e999}', "an infinite number"),
        ('{"n": ' + "[" * 200 + "]" * 200 + "}", "nested deeper than 100 levels"),
        ("[" * 100_000, "recursion"),
        ('{"n": ' + "9" * 5_000 + "}", "integer string conversion"),
    ],
)
def test_a_line_that_no_database_takes_keeps_no_other_back(actors_here: Any, folder: Path, line: str, why: str) -> None:
    (folder / "a.jsonl").write_text(f'{line}\n{{"n": "\\u0000\\ud800"}}\n')
    found = process_data.fn("d1", "a.jsonl")
    assert (found.rows, found.rejects) == (1, 1)
    assert found.rejected[0].startswith("line 1: ")
    assert why in found.rejected[0]
    assert stored() == [{"n": "\N{REPLACEMENT CHARACTER}?"}]


@pytest.mark.parametrize("count", [0, 10, 11, 20])
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", json_lines),
        ("a.csv", table),
        ("a.parquet", parquet),
        ("a.ndjson.gz", lambda count: gzip.compress(json_lines(count))),
        ("a.csv.zst", lambda count: zstd(table(count))),
    ],
)
def test_whatever_the_number_of_rows_every_one_is_there(
    kit: Hareline, folder: Path, name: str, content: Callable[[int], bytes], count: int
) -> None:
    (folder / name).write_bytes(content(count))
    assert process_data.fn("d1", name).rows == count
    assert [int(row["n"]) for row in stored()] == list(range(count))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.xlsx", b"", r"is none of \.csv, \.jsonl"),
        ("a.parquet.gz", b"", "is none of"),
        ("a", b"", "is none of"),
        ("a.parquet", b"PAR1 and no more", "is no Parquet file"),
        ("a.parquet", parquet(100)[:200] + parquet(100)[210:], "a.parquet"),
        ("a.jsonl.gz", gzip.compress(json_lines(50))[:-20], "cannot be unpacked"),
        ("a.jsonl.gz", b"no gzip", "cannot be unpacked"),
        ("a.jsonl.zst", b"no zstd", "cannot be unpacked"),
        ("a.csv", b'a\n"' + 2 * (b"x" * 6_000_000 + b"\n"), "line 3: field larger than field limit"),
    ],
)
def test_a_file_that_is_no_such_file_is_final_and_named(
    kit: Hareline, folder: Path, name: str, content: bytes, words: str
) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(Failure, match=words):
        process_data.fn("d1", name)


def test_a_file_without_line_ends_is_not_read_into_memory(
    kit: Hareline, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "LONGEST", 1_000)
    (folder / "a.jsonl.gz").write_bytes(gzip.compress(b'{"n": 1}\n' + b" " * 5_000))
    with pytest.raises(Failure, match="line 2: longer than 1,000 bytes"):
        process_data.fn("d1", "a.jsonl.gz")


def test_wide_rows_make_small_chunks(kit: Hareline, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "CHUNK_BYTES", 5_000)
    kept = counted(monkeypatch)
    (folder / "a.jsonl").write_text("".join(f'{{"n": {n}, "wide": "{"x" * 2_000}"}}\n' for n in range(8)))
    (folder / "a.csv").write_text("n,wide\n" + "".join(f"{n},{'x' * 2_000}\n" for n in range(8)))
    wide = pyarrow.table({"n": list(range(8)), "wide": [os.urandom(1_000).hex() for _ in range(8)]})
    pyarrow.parquet.write_table(wide, folder / "a.parquet")
    for name in ("a.jsonl", "a.csv", "a.parquet"):
        kept.clear()
        process_data.fn(name, name)
        assert kept == [3, 3, 2], name


def test_a_large_file_is_read_in_little_memory(folder: Path) -> None:
    """Sixty megabytes of text in one packed row group, and never much of it at once."""
    text = pyarrow.array([f"{n:0600}" for n in range(100_000)])
    pyarrow.parquet.write_table(pyarrow.table({"text": text}), folder / "a.parquet", row_group_size=100_000)
    del text
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with opened("a.parquet") as source:
        count = sum(len(chunk) for chunk, _ in rows.Rows(source, 0, 0).chunks(1_000))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert count == 100_000
    assert grown < 30_000 * (1 if sys.platform != "darwin" else 1_024)


# -- going on


def counted(monkeypatch: pytest.MonkeyPatch, *, fail_at: int = 0) -> list[int]:
    """The sizes of the chunks that are kept from now on; one of them is not."""
    kept: list[int] = []

    def breaking(state: Any, chunk: Any, *, last: bool) -> Any:
        kept.append(len(chunk))
        if len(kept) == fail_at:
            raise ConnectionError("the database went away")
        return keep(state, chunk, last=last)

    monkeypatch.setattr(data, "keep", breaking)
    return kept


FORMATS: list[tuple[str, Callable[[int], bytes]]] = [
    ("a.jsonl", json_lines),
    ("a.csv", table),
    ("a.parquet", parquet),
    ("a.jsonl.gz", lambda count: gzip.compress(json_lines(count))),
    ("a.csv.gz", lambda count: gzip.compress(table(count))),
    ("a.csv.zst", lambda count: zstd(table(count))),
]


@pytest.mark.parametrize(("name", "content"), FORMATS)
def test_an_attempt_goes_on_at_the_last_finished_chunk(
    kit: Hareline, web: FileServer, name: str, content: Callable[[int], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    web.files[f"/public/{name}"] = content(45)
    reference = f"{web.url}/public/{name}"
    kept = counted(monkeypatch, fail_at=3)
    with pytest.raises(ConnectionError):
        process_data.fn("d1", reference)
    assert len(stored()) == 20
    found = process_data.fn("d1", reference)
    assert kept == [10, 10, 10, 10, 10, 5]
    assert found.rows == 45
    assert [int(row["n"]) for row in stored()] == list(range(45))


def test_what_is_done_is_not_fetched_again(kit: Hareline, web: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "".join(f'{{"n": {n}, "wide": "{"x" * 50_000}"}}\n' for n in range(45)).encode()
    web.files["/public/a.jsonl"] = text
    counted(monkeypatch, fail_at=4)
    with pytest.raises(ConnectionError):
        process_data.fn("d1", f"{web.url}/public/a.jsonl")
    web.ranges.clear()
    process_data.fn("d1", f"{web.url}/public/a.jsonl")
    begun = int(web.ranges[1].removeprefix("bytes=").split("-")[0])
    assert begun == sum(map(len, text.splitlines(keepends=True)[:30])), "the first one asks which file it is"


def test_lines_are_numbered_on_from_where_it_went_on(
    kit: Hareline, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "a.jsonl").write_bytes(json_lines(35) + b"broken\n")
    counted(monkeypatch, fail_at=3)
    with pytest.raises(ConnectionError):
        process_data.fn("d1", "a.jsonl")
    assert process_data.fn("d1", "a.jsonl").rejected[0].startswith("line 36: ")


def test_progress_is_told_in_bytes_or_rows_of_all(kit: Hareline, folder: Path) -> None:
    (folder / "a.jsonl").write_bytes(json_lines(25))
    (folder / "a.parquet").write_bytes(parquet(25))
    for name, total in (("a.jsonl", len(json_lines(25))), ("a.parquet", 25)):
        job = kit.wait_for(process_data.send(name, name))
        assert job.state is State.COMPLETED
        assert job.progress is not None
        assert job.progress.total == total


# -- where files come from


@pytest.mark.parametrize(
    "reference", ["memory://shop/exports/a.parquet", "WEB/public/a.parquet", "file://FOLDER/a.parquet"]
)
def test_a_file_is_read_from_wherever_it_is(kit: Hareline, web: FileServer, folder: Path, reference: str) -> None:
    fsspec.filesystem("memory").pipe_file("/shop/exports/a.parquet", parquet(25))
    web.files["/public/a.parquet"] = parquet(25)
    (folder / "a.parquet").write_bytes(parquet(25))
    named = reference.replace("WEB", web.url).replace("FOLDER", str(folder))
    assert process_data.fn("d1", named).rows == 25
    assert stored() == [{"n": n} for n in range(25)]


def test_a_file_that_was_changed_is_refused_wherever_it_is(
    kit: Hareline, web: FileServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = fsspec.filesystem("memory")

    def write(text: bytes) -> None:
        memory.pipe_file("/shop/exports/a.jsonl", text)
        web.files["/public/a.jsonl"] = text
        (folder / "a.jsonl").write_bytes(text)

    references = ("memory://shop/exports/a.jsonl", f"{web.url}/public/a.jsonl", "a.jsonl")
    write(json_lines(25))
    for reference in references:
        counted(monkeypatch, fail_at=2)
        with pytest.raises(ConnectionError):
            process_data.fn(reference, reference)
    write(json_lines(26))
    monkeypatch.setattr(data, "keep", keep)
    for reference in references:
        with pytest.raises(Failure, match="the file is another: take a new id") as raised:
            process_data.fn(reference, reference)
        assert raised.value.code == "file_changed"
    assert len(stored()) == 10 * len(references)


def test_a_file_that_is_changed_while_it_is_read_is_not_finished(
    kit: Hareline, web: FileServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = b"".join(b'{"n": %d, "wide": "%s"}\n' % (n, b"x" * 90_000) for n in range(30))

    def write(text: bytes) -> None:
        fsspec.filesystem("memory").pipe_file("/shop/exports/a.jsonl", text)
        web.files["/public/a.jsonl"] = text
        (folder / "a.jsonl").write_bytes(text)

    def changing(state: Any, chunk: Any, *, last: bool) -> Any:
        write(text + b'{"n": 30}\n')
        assert not last, "it was finished"
        return keep(state, chunk, last=last)

    monkeypatch.setattr(data, "keep", changing)
    for reference in ("memory://shop/exports/a.jsonl", f"{web.url}/public/a.jsonl", "a.jsonl"):
        write(text)
        with pytest.raises(Failure, match="changed while it was read"):
            process_data.fn(reference, reference)


def test_references_to_elsewhere_are_refused(kit: Hareline, web: FileServer, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.jsonl").write_bytes(json_lines(1))
    (tmp_path / "data2").mkdir()
    (tmp_path / "data2/a.jsonl").write_bytes(json_lines(1))
    (folder / "link.jsonl").symlink_to(tmp_path / "secret.jsonl")
    (folder / "up").symlink_to(tmp_path)
    (folder / "circle.jsonl").symlink_to(folder / "circle.jsonl")
    (folder / "folder.jsonl").mkdir()
    os.mkfifo(folder / "pipe.jsonl")
    fsspec.filesystem("memory").pipe_file("/shop/secret/a.jsonl", json_lines(1))
    web.files["/secret/a.jsonl"] = json_lines(1)
    host = web.url.removeprefix("http://")
    for reference in (
        "b.jsonl",
        "folder.jsonl",
        "pipe.jsonl",
        "circle.jsonl",
        "../secret.jsonl",
        "link.jsonl",
        "up/secret.jsonl",
        "../data2/a.jsonl",
        str(tmp_path / "secret.jsonl"),
        "/etc/passwd",
        "file:///etc/passwd",
        f"file://{tmp_path}/secret.jsonl",
        f"file://{folder}/../secret.jsonl",
        "a\0.jsonl",
        "x" * 5_000,
        "memory://shop/secret/a.jsonl",
        "memory://shop/exports2/a.jsonl",
        "memory://shop/exports/../secret/a.jsonl",
        "memory://shop/exports/%2e%2e/secret/a.jsonl",
        "memory://other/exports/a.jsonl",
        "simplecache::memory://shop/exports/a.jsonl",
        "memory://shop/exports/a.jsonl::file:///etc/passwd",
        "MEMORY://shop/exports/a.jsonl",
        "local:///etc/passwd",
        "s3://bucket/a.jsonl",
        "ftp://127.0.0.1/a.jsonl",
        f"{web.url}/secret/a.jsonl",
        f"{web.url}/public/../secret/a.jsonl",
        f"{web.url}/public/%2e%2e/secret/a.jsonl",
        f"{web.url}/public/..\\secret/a.jsonl",
        f"{web.url}/publicity/a.jsonl",
        f"http://user@{host}/public/a.jsonl",
        f"http://elsewhere.example@{host}/public/a.jsonl",
        f"http://{host}@elsewhere.example/public/a.jsonl",
        f"https://{host}/public/a.jsonl",
        "http://127.0.0.1:1/public/a.jsonl",
        f"http://[/{host}/public/a.jsonl",
    ):
        with pytest.raises(Failure) as raised:
            process_data.fn("d1", reference)
        assert raised.value.code in ("forbidden_path", "forbidden_address", "no_file"), reference
    assert web.requests == []
    with database().read() as connection:
        assert connection.scalar(select(func.count()).select_from(dataset_rows)) == 0


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/a.csv",
        "http://169.254.169.254/latest/meta-data/a.csv",
        "http://[::ffff:10.0.0.1]/a.csv",
        "http://2130706433/a.csv",
        "https://localhost/a.csv",
    ],
)
def test_where_every_server_is_allowed_only_public_ones_are(
    kit: Hareline, folder: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("HARELINE_DATA_SOURCES", "https:// http://")
    with pytest.raises(Forbidden):
        process_data.fn("d1", url)


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (status(404), Refused, "answered 404"),
        (status(403), Refused, "answered 403"),
        (status(429, Retry_After="7"), RateLimited, "429"),
        (status(500), Unavailable, "500"),
        (cut_mid_body, Unavailable, "with 5 bytes"),
        (respond(200, {"n": 1}), Refused, "no parts of files"),
        (status(302, Location="http://169.254.169.254/"), Refused, "redirects are not followed"),
        (respond(206, {"n": 1}), Unavailable, "as None"),
        (respond(206, {"n": 1}, Content_Range="bytes 0-0/100"), Unavailable, "8 bytes"),
        (respond(206, 1, Content_Range="bytes 0-0/100"), Refused, "neither an ETag nor Last-Modified"),
    ],
)
def test_what_a_server_answers_means_what_it_says(
    kit: Hareline, web: FileServer, answer: Any, kind: type, words: str
) -> None:
    web.answer = answer
    with pytest.raises(kind, match=words) as raised:
        process_data.fn("d1", f"{web.url}/public/a.jsonl?signature=secret")
    assert "secret" not in str(raised.value)


def test_a_server_that_breaks_off_is_asked_again_from_there(kit: Hareline, web: FileServer) -> None:
    web.files["/public/a.jsonl"] = json_lines(25)
    whole = web.answer
    web.script = [whole, cut_in_the_middle(web.files["/public/a.jsonl"])]
    job = kit.wait_for(process_data.send("d1", f"{web.url}/public/a.jsonl"), raises=False)
    assert (job.state, job.attempts_spent) == (State.COMPLETED, 2)
    assert len(stored()) == 25


def cut_in_the_middle(text: bytes) -> Any:
    def answer(request: Any) -> None:
        request.send_response(206)
        request.send_header("Content-Range", f"bytes 0-{len(text) - 1}/{len(text)}")
        request.send_header("Content-Length", str(len(text)))
        request.send_header("ETag", f'"{hash(text)}"')
        request.end_headers()
        request.wfile.write(text[:50])
        request.close_connection = True

    return answer


def test_no_proxy_of_the_environment_is_asked(kit: Hareline, web: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    web.files["/public/a.jsonl"] = json_lines(1)
    with FileServer() as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("ALL_PROXY", proxy.url)
        assert process_data.fn("d1", f"{web.url}/public/a.jsonl").rows == 1
        assert proxy.requests == []


# -- what is not installed


def test_without_its_library_a_format_names_the_extra_and_others_work(
    kit: Hareline, web: FileServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "a.parquet").write_bytes(parquet(3))
    (folder / "a.csv").write_bytes(table(3))
    monkeypatch.setenv("HARELINE_DATA_SOURCES", "s3://bucket gs://bucket memory://")
    for missing in ("pyarrow", "pyarrow.parquet", "fsspec", "s3fs", "gcsfs"):
        monkeypatch.setitem(sys.modules, missing, None)
    for reference, words in (
        ("a.parquet", r"pyarrow, which is not installed here: pip install 'hareline\[data\]', and"),
        ("memory://a.csv", r"fsspec, which is not installed here: pip install 'hareline\[data\]', and"),
        ("s3://bucket/a.csv", r"s3:// needs fsspec"),
    ):
        with pytest.raises(MissingExtra, match=words):
            process_data.fn("d1", reference)
    monkeypatch.delitem(sys.modules, "fsspec")
    for reference, words in (("s3://bucket/a.csv", r"needs s3fs, .* s3fs, and"), ("gs://bucket/a.csv", "needs gcsfs")):
        with pytest.raises(MissingExtra, match=words):
            process_data.fn("d1", reference)
    assert process_data.fn("d2", "a.csv").rows == 3

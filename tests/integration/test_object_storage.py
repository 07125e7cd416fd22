"""S3, by s3fs against a server that speaks it: data files from a bucket, archives into one."""

import gzip
import io
from collections.abc import Iterator
from typing import Any

import fsspec
import pyarrow
import pyarrow.parquet
import pytest
from sqlalchemy import select

from actors import data
from actors.data import process_data
from actors.database import database
from actors.datasets import keep
from actors.objects import put
from actors.outside import Refused, Unavailable
from actors.tables import dataset_rows
from errors import Failure
from hareline_testing import Hareline
from tests.bucket import Bucket

pytestmark = [pytest.mark.prove, pytest.mark.filterwarnings("ignore::ResourceWarning")]


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    with Bucket() as found:
        for name, value in found.environment.items():
            monkeypatch.setenv(name, value)
        fsspec.get_filesystem_class("s3").clear_instance_cache()  # a process has one environment
        monkeypatch.setenv("HARELINE_DATA_SOURCES", "s3://shop/exports")
        monkeypatch.setattr(data, "CHUNK", 10)
        yield found


def parquet(count: int) -> bytes:
    written = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table({"n": list(range(count))}), written, row_group_size=7)
    return written.getvalue()


def stored() -> list[Any]:
    with database().read() as connection:
        return list(connection.scalars(select(dataset_rows.c.row).order_by(dataset_rows.c.number)))


def test_files_are_read_from_a_bucket_and_gone_on_with(
    kit: Hareline, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.objects["/shop/exports/a.parquet"] = parquet(45)
    bucket.objects["/shop/exports/a.jsonl.gz"] = gzip.compress(b"".join(b'{"n": %d}\n' % n for n in range(45)))
    for reference in ("s3://shop/exports/a.parquet", "s3://shop/exports/a.jsonl.gz"):
        kept: list[int] = []

        def breaking(state: Any, chunk: Any, *, last: bool, kept: list[int] = kept) -> Any:
            kept.append(len(chunk))
            if len(kept) == 3:
                raise ConnectionError("the database went away")
            return keep(state, chunk, last=last)

        monkeypatch.setattr(data, "keep", breaking)
        with pytest.raises(ConnectionError):
            process_data.fn(reference, reference)
        assert process_data.fn(reference, reference).rows == 45
        assert kept == [10, 10, 10, 10, 10, 5]
    assert sorted(row["n"] for row in stored()) == sorted([*range(45)] * 2)


def test_an_object_that_was_replaced_is_refused(kit: Hareline, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket.objects["/shop/exports/a.jsonl"] = b'{"n": 1}\n' * 25

    def replacing(state: Any, chunk: Any, *, last: bool) -> Any:
        bucket.objects["/shop/exports/a.jsonl"] = b'{"n": 2}\n' * 25  # as long, and in the same second
        return keep(state, chunk, last=last)

    monkeypatch.setattr(data, "keep", replacing)
    for words in ("changed while it was read", "the file is another: take a new id"):
        with pytest.raises(Failure, match=words):
            process_data.fn("d1", "s3://shop/exports/a.jsonl")


def test_what_a_bucket_does_not_give_is_named(kit: Hareline, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Failure, match=r"there is no s3://shop/exports/a\.csv"):
        process_data.fn("d1", "s3://shop/exports/a.csv")
    with pytest.raises(Failure, match="could mean another one"):
        process_data.fn("d1", "s3://shop/exports/../secret/a.csv")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "stranger")
    with pytest.raises((Refused, Unavailable), match=r"s3://shop/exports/a\.csv") as raised:
        process_data.fn("d1", "s3://shop/exports/a.csv")
    assert isinstance(raised.value, Refused), raised.value


def test_an_object_is_stored_whole(bucket: Bucket) -> None:
    put("s3://shop/archive/history-000001.jsonl.gz", b"packed")
    assert bucket.objects == {"/shop/archive/history-000001.jsonl.gz": b"packed"}

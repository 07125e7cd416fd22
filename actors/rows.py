"""The rows of a data file, from where reading has to go on: CSV, JSON lines and Parquet."""

import csv
import json
import math
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from actors.extras import extra
from actors.lines import LONGEST, Lines
from actors.ranged import PIECE
from actors.sources import Source
from errors import Failure
from ledger.text import clean

#: Rows of one chunk, and their bytes: whatever is reached first.
CHUNK = 1_000
CHUNK_BYTES = 8_000_000
#: Levels of the deepest value that is kept.
DEEPEST = 100
COMPRESSIONS = (".gz", ".zst")


class Row(NamedTuple):
    """A row, or why it cannot be read; and where the next one begins."""

    value: dict[str, Any] | str
    position: int  #: bytes of the (unpacked) text before the next row; rows, in a Parquet file
    line: int  #: lines before it; 0 in a Parquet file
    size: int  #: about so many bytes


class Rows:
    """The rows of a file behind a position.

    Raises ``Failure`` (``unknown_format``) for a name that ends in no format it knows; (``unreadable``) on the way.
    """

    def __init__(self, source: Source, position: int, line: int) -> None:
        suffixes = [suffix.lower() for suffix in PurePosixPath(source.name).suffixes]
        compression = suffixes.pop() if suffixes and suffixes[-1] in COMPRESSIONS else ""
        #: How far the last row's ``position`` goes, where that is known.
        self.total: int | None = None if compression else source.size
        self._rows: Iterator[Row]
        match suffixes[-1:]:
            case [".jsonl" | ".ndjson"]:
                self._rows = _json_lines(Lines(source, compression), position, line)
            case [".csv"]:
                self._rows = _csv(Lines(source, compression), position, line, source.name)
            case [".parquet"] if not compression:
                file = _parquet(source)
                self.total = file.metadata.num_rows
                self._rows = _of_groups(file, position, source.name)
            case _:
                raise Failure(
                    f"{source.name} is none of .csv, .jsonl (also .gz, .zst), .parquet; convert it, and send it again",
                    code="unknown_format",
                )

    def chunks(self, most: int = CHUNK) -> Iterator[tuple[list[Row], bool]]:
        """Rows of one transaction each, and whether they are the last; those may be none."""
        chunk: list[Row] = []
        size = 0
        for row in self._rows:
            chunk.append(row)
            size += row.size
            if len(chunk) == most or size >= CHUNK_BYTES:
                yield chunk, False
                chunk, size = [], 0
        yield chunk, True


def _json_lines(lines: Lines, position: int, line: int) -> Iterator[Row]:
    lines.go_to(position, line)
    for text in lines:
        if not text.strip():
            continue
        value: dict[str, Any] | str
        try:
            found = json.loads(text, parse_constant=_no_number)
            value = storable(found) if isinstance(found, dict) else f"a {type(found).__name__}, not an object"
        except (ValueError, RecursionError) as error:
            value = str(error)
        yield Row(_numbered(value, lines.number), lines.position, lines.number, len(text))


def _csv(lines: Lines, position: int, line: int, name: str) -> Iterator[Row]:
    csv.field_size_limit(LONGEST)  # the lines are what is bounded; its own limit is of the whole process
    reader = csv.reader(lines)
    try:
        names = next(reader, [])
        if position:
            lines.go_to(position, line)
        before = lines.position
        for values in reader:
            if values:
                yield Row(
                    _of_fields(names, values, lines.number), lines.position, lines.number, lines.position - before
                )
            before = lines.position
    except csv.Error as error:
        raise Failure(f"{name}, line {lines.number}: {error}", code="unreadable") from error


def _of_fields(names: list[str], values: list[str], line: int) -> dict[str, Any] | str:
    if len(values) != len(names):
        return f"line {line}: {len(values)} fields, and the header has {len(names)}"
    return {clean(name): clean(value) for name, value in zip(names, values, strict=True)}


def _parquet(source: Source) -> Any:
    parquet = extra("pyarrow.parquet", "reading .parquet", "'hareline[data]'")
    try:
        # Nothing is read ahead: of a row group no more than a piece of each column is in memory.
        return parquet.ParquetFile(source.file, pre_buffer=False, buffer_size=PIECE)
    except (OSError, ValueError) as error:  # ArrowInvalid is a ValueError
        raise Failure(f"{source.name} is no Parquet file: {error}", code="unreadable") from error


def _of_groups(file: Any, position: int, name: str) -> Iterator[Row]:
    start = 0
    for group in range(file.num_row_groups):
        meta = file.metadata.row_group(group)
        if start + meta.num_rows > position:
            wide = max(1, meta.total_byte_size // max(1, meta.num_rows))
            at = start
            batches = file.iter_batches(max(1, min(CHUNK, CHUNK_BYTES // wide)), row_groups=[group], use_threads=False)
            try:
                for batch in batches:
                    skip = min(max(position - at, 0), len(batch))
                    size = batch.nbytes // max(1, len(batch))
                    for number, row in enumerate(batch.slice(skip).to_pylist(), at + skip + 1):
                        yield Row(_stored(row, number), number, 0, size)
                    at += len(batch)
            except (OSError, ValueError) as error:
                raise Failure(f"{name}, rows from {at + 1}: {error}", code="unreadable") from error
        start += meta.num_rows


def _stored(row: dict[str, Any], number: int) -> dict[str, Any] | str:
    try:
        return dict(storable(row))
    except ValueError as error:
        return f"row {number}: {error}"


def _numbered(value: dict[str, Any] | str, line: int) -> dict[str, Any] | str:
    return clean(f"line {line}: {value}") if isinstance(value, str) else value


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no JSON")


def storable(value: Any, depth: int = 0) -> Any:
    """The value as JSON that every database takes: no NUL, moments as ISO 8601, decimals as text, no number as null.

    Raises ``ValueError`` for what has no such form.
    """
    if depth > DEEPEST:
        raise ValueError(f"nested deeper than {DEEPEST} levels")
    match value:
        case str():
            return clean(value)
        case None | bool() | int():
            return value
        case float():
            if math.isinf(value):
                raise ValueError("an infinite number, which JSON does not have")
            return None if math.isnan(value) else value
        case dict():
            return {clean(str(name)): storable(item, depth + 1) for name, item in value.items()}
        case list() | tuple():
            return [storable(item, depth + 1) for item in value]
        case datetime() | date() | time():
            return value.isoformat()
        case Decimal():
            return str(value)
        case timedelta():
            return value.total_seconds()
        case bytes():
            return value.hex()
    raise ValueError(f"a {type(value).__name__}, which JSON does not have")

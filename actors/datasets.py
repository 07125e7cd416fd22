"""Datasets: files that were read into the database, row by row."""

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import select

from actors.database import database, insert, put
from actors.tables import dataset_rows, datasets
from errors import Failure

#: So many rejected lines are kept, with why.
NAMED = 20


@dataclass(frozen=True, slots=True)
class Dataset:
    """How far a file is read."""

    id: str
    path: str
    fingerprint: str
    rows: int
    rejects: int
    rejected: list[str]
    finished_at: datetime | None

    @property
    def read(self) -> int:
        """Rows of the file that are done, kept or rejected."""
        return self.rows + self.rejects


def located(folder: str, reference: str) -> Path:
    """The file that a reference names, within the folder.  Raises ``Failure``."""
    root = Path(folder).resolve()
    path = (root / reference).resolve()
    if not path.is_relative_to(root):
        raise Failure(f"{reference!r} is outside of HARELINE_DATA_DIR ({root})", code="forbidden_path")
    if not path.is_file():
        raise Failure(f"there is no file {reference!r} in HARELINE_DATA_DIR ({root})", code="no_file")
    return path


def fingerprint(path: Path) -> str:
    """What changes when the file does."""
    stat = path.stat()
    return f"{stat.st_size}-{stat.st_mtime_ns}"


def rows_of(path: Path) -> Iterator[dict[str, Any] | str]:
    """Each row of a CSV or JSONL file; a text where it cannot be read, saying why.  Raises ``Failure``."""
    match path.suffix.lower():
        case ".jsonl" | ".ndjson":
            return _json_lines(path)
        case ".csv":
            return _csv(path)
    raise Failure(f"{path.name} is neither .csv nor .jsonl; convert it, and send it again", code="unknown_format")


def _json_lines(path: Path) -> Iterator[dict[str, Any] | str]:
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                yield f"line {number}: {error}"
            else:
                yield row if isinstance(row, dict) else f"line {number}: a {type(row).__name__}, not an object"


def _csv(path: Path) -> Iterator[dict[str, Any] | str]:
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        reader = csv.reader(file)
        try:
            names = next(reader, [])
            for values in reader:
                if not values:
                    continue
                if len(values) == len(names):
                    yield dict(zip(names, values, strict=True))
                else:
                    yield f"line {reader.line_num}: {len(values)} fields, and the header has {len(names)}"
        except csv.Error as error:
            raise Failure(f"{path.name}, line {reader.line_num}: {error}", code="unreadable") from error


def begun(id: str, reference: str, print: str) -> Dataset:
    """Where the dataset stands; it is begun if it was not.  Raises ``Failure`` when its file is another one by now."""
    with database().write() as connection:
        row = {"id": id, "path": reference, "fingerprint": print, "rows": 0, "rejects": 0, "rejected": []}
        connection.execute(insert(connection, datasets).values(**row).on_conflict_do_nothing())
        found = Dataset(**connection.execute(select(datasets).where(datasets.c.id == id)).one()._mapping)
    if (found.path, found.fingerprint) != (reference, print):
        raise Failure(
            f"dataset {id!r} was begun with {found.path!r} as it was then; the file is another: take a new id",
            code="file_changed",
        )
    return found


def keep(state: Dataset, chunk: Sequence[dict[str, Any] | str], *, last: bool) -> Dataset:
    """Store a chunk's rows, and how far it is, together; where it stands then.

    Rows have the numbers they have in the file, so a chunk that two workers read is there once.
    """
    numbered = enumerate(chunk, state.read + 1)
    rows = [{"dataset": state.id, "number": n, "row": row} for n, row in numbered if not isinstance(row, str)]
    rejected = [row for row in chunk if isinstance(row, str)]
    with database().write() as connection:
        if rows:
            connection.execute(insert(connection, dataset_rows).on_conflict_do_nothing(), rows)
        now = Dataset(
            state.id,
            state.path,
            state.fingerprint,
            state.rows + len(rows),
            state.rejects + len(rejected),
            [*state.rejected, *rejected][:NAMED],
            database().time(connection) if last else None,
        )
        put(connection, datasets, {name: getattr(now, name) for name in Dataset.__slots__})
    return now

"""Datasets: files that were read into the database, row by row."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select

from actors.database import database, insert, put
from actors.rows import Row
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
    position: int  #: where the next row begins, as ``actors/rows.py`` counts
    line: int
    finished_at: datetime | None

    @property
    def read(self) -> int:
        """Rows of the file that are done, kept or rejected."""
        return self.rows + self.rejects


def begun(id: str, reference: str, fingerprint: str) -> Dataset:
    """Where the dataset stands; it is begun if it was not.  Raises ``Failure`` when its file is another one by now."""
    row = {"id": id, "path": reference, "fingerprint": fingerprint, "rows": 0, "rejects": 0, "rejected": []}
    with database().write() as connection:
        begin = insert(connection, datasets).values(**row, position=0, line=0)
        connection.execute(begin.on_conflict_do_nothing())
        found = Dataset(**connection.execute(select(datasets).where(datasets.c.id == id)).one()._mapping)
    if (found.path, found.fingerprint) != (reference, fingerprint):
        raise Failure(
            f"dataset {id!r} was begun with {found.path!r} as it was then; the file is another: take a new id",
            code="file_changed",
        )
    return found


def keep(state: Dataset, chunk: Sequence[Row], *, last: bool) -> Dataset:
    """Store a chunk's rows, and how far it is, together; where it stands then.

    Rows have the numbers they have in the file, so a chunk that two workers read is there once.
    """
    numbered = enumerate(chunk, state.read + 1)
    rows = [
        {"dataset": state.id, "number": n, "row": row.value} for n, row in numbered if not isinstance(row.value, str)
    ]
    rejected = [row.value for row in chunk if isinstance(row.value, str)]
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
            chunk[-1].position if chunk else state.position,
            chunk[-1].line if chunk else state.line,
            database().time(connection) if last else None,
        )
        put(connection, datasets, {name: getattr(now, name) for name in Dataset.__slots__})
    return now

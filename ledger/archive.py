"""Takes old jobs out of the history, once they are safe somewhere else."""

import base64
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Table, delete, select

from ledger.engine import Database
from ledger.tables import attempts, edits, failures, history, journal, results, search_texts


class Archive:
    """The history's way out, oldest jobs first.  Thread-safe; raises ``LedgerUnavailable`` as the queries do."""

    def __init__(self, url: str) -> None:
        self._database = Database(url)

    def close(self) -> None:
        self._database.close()

    def older_than(self, age: timedelta) -> datetime:
        """The moment of that age, by the database's clock."""
        with self._database.read() as connection:
            return self._database.time(connection) - age

    def take(self, before: datetime, keep: Callable[[Sequence[dict[str, Any]]], None], *, limit: int = 500) -> int:
        """Give up to ``limit`` jobs that finished before this moment to ``keep``, then delete them; returns how many.

        Each comes as plain data, ready for JSON, with its attempts and its journal.  When ``keep`` raises, nothing is
        deleted.  When the process dies between the two, the same jobs are given again.  A job that an operator sends
        round again meanwhile keeps all it has.
        """
        with self._database.read() as connection:
            jobs = _oldest(connection, before, limit)
        if not jobs:
            return 0
        keep(jobs)
        ids = [job["id"] for job in jobs]
        with self._database.write() as connection:
            gone = list(connection.scalars(delete(history).where(history.c.id.in_(ids)).returning(history.c.id)))
            for table in (attempts, journal, results, failures, search_texts, edits):
                connection.execute(delete(table).where(table.c.job_id.in_(gone)))
        return len(jobs)


def _oldest(connection: Connection, before: datetime, limit: int) -> list[dict[str, Any]]:
    wanted = select(history).where(history.c.finished_at < before).order_by(history.c.finished_at).limit(limit)
    jobs = [_plain(row._mapping) for row in connection.execute(wanted)]
    ids = [job["id"] for job in jobs]
    tried, told = _of_jobs(connection, attempts, ids, "epoch"), _of_jobs(connection, journal, ids, "id")
    return [job | {"attempts": tried[job["id"]], "journal": told[job["id"]]} for job in jobs]


def _of_jobs(connection: Connection, table: Table, ids: Iterable[str], order: str) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in connection.execute(select(table).where(table.c.job_id.in_(ids)).order_by(table.c[order])):
        fields = _plain(row._mapping)
        found[fields.pop("job_id")].append(fields)
    return found


def _plain(row: Any) -> dict[str, Any]:
    return {name: _json(value) for name, value in row.items()}


def _json(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, (bytes, memoryview)):
        try:
            return bytes(value).decode()
        except UnicodeDecodeError:
            return {"base64": base64.b64encode(bytes(value)).decode()}
    return value

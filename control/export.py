"""All jobs that fit, as lines for other programs.  A page is in memory at a time."""

import csv
import io
import json
from collections.abc import Iterator
from typing import Any

from ledger.queries import Queries
from ledger.search import Filter, Found

PAGE = 1_000
COLUMNS = (
    "id", "message_id", "queue", "actor", "state", "reason", "priority", "attempts_spent", "crashes", "created_at",
    "run_at", "finished_at", "archived", "args", "error",
)  # fmt: skip
#: A spreadsheet takes what begins so for a formula.
_FORMULAS = ("=", "+", "-", "@", "\t", "\r")


def rows(queries: Queries, wanted: Filter, *, most: int | None = None) -> Iterator[dict[str, Any]]:
    """Newest first, redacted as in every list; what comes while it is read may be in it or not."""
    after, left = None, most
    while left is None or left > 0:
        page = queries.search(wanted, limit=PAGE if left is None else min(PAGE, left), after=after)
        for job in page.jobs:
            yield _plain(job)
        if page.after is None:
            return
        after, left = page.after, None if left is None else left - len(page.jobs)


def ndjson(queries: Queries, wanted: Filter, *, most: int | None = None) -> Iterator[str]:
    """One JSON object a line."""
    for row in rows(queries, wanted, most=most):
        yield json.dumps(row) + "\n"


def as_csv(queries: Queries, wanted: Filter, *, most: int | None = None) -> Iterator[str]:
    """Comma-separated, with a heading."""
    yield _line(COLUMNS)
    for row in rows(queries, wanted, most=most):
        yield _line([_inert(row[name]) for name in COLUMNS])


def _plain(job: Found) -> dict[str, Any]:
    values = ((name, getattr(job, name)) for name in COLUMNS)
    return {name: value.isoformat() if name.endswith("_at") and value else value for name, value in values}


def _line(cells: Any) -> str:
    text = io.StringIO()
    csv.writer(text).writerow(cells)
    return text.getvalue()


def _inert(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULAS) else value

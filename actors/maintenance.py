"""Queue ``maintenance``: what keeps the system itself in order."""

import gzip
import json
import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import dramatiq
import structlog
from uuid_utils import uuid7

from actors.objects import is_object, put
from errors import Discard
from ledger.archive import Archive
from settings import load

BACKGROUND = 5

log = structlog.get_logger(__name__)


@dramatiq.actor(queue_name="maintenance", priority=BACKGROUND)
def cleanup_audit_log(retention_days: int | None = None) -> None:
    """Move jobs that finished more than ``retention_days`` ago from the history to a file in ``archive_dir``.

    One gzipped JSON document per line and job, with its attempts and its journal.  Without an argument the setting
    decides; 0 does nothing (then the history is kept empty, and there is nothing to archive).  ``archive_dir`` may be
    a place in an object store (``s3://bucket/archive``): there each batch is a file, as objects cannot be appended to.

    Idempotent: a batch is deleted after it is on the disk, or in the store.  A run that dies between the two leaves
    jobs in its file that the next run writes again: a reader takes the last line of each ``id``.
    """
    settings = load()
    days = settings.audit_log_retention_days if retention_days is None else retention_days
    if isinstance(days, bool) or not isinstance(days, int) or days < 0:
        raise Discard(f"retention_days is a number of days of at least 0, got {retention_days!r}")
    if days == 0:
        log.info("audit_log.kept", why="retention_days is 0")
        return
    # A name of its own for each run: one that died may have left half a line at the end of its file.
    place = f"{settings.archive_dir.rstrip('/')}/history-{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{uuid7().hex[-8:]}"
    keep = _in_store(place) if is_object(place) else partial(append, Path(f"{place}.jsonl.gz"))
    archive = Archive(settings.database_url)
    moved = 0
    try:
        before = archive.older_than(timedelta(days=days))
        while taken := archive.take(before, keep):
            moved += taken
    finally:
        archive.close()
    log.info("audit_log.archived", jobs=moved, before=before.isoformat(), place=place if moved else None)


def append(path: Path, jobs: Sequence[dict[str, Any]]) -> None:
    """Add one gzip member to the file; it is on the disk when this returns.  Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        file.write(_packed(jobs))
        file.flush()
        os.fsync(file.fileno())


def _in_store(place: str) -> Callable[[Sequence[dict[str, Any]]], None]:
    numbers = count(1)
    return lambda jobs: put(f"{place}-{next(numbers):06}.jsonl.gz", _packed(jobs))


def _packed(jobs: Sequence[dict[str, Any]]) -> bytes:
    return gzip.compress("".join(json.dumps(job, separators=(",", ":")) + "\n" for job in jobs).encode())

"""Queue ``maintenance``: what keeps the system itself in order."""

import gzip
import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dramatiq
import structlog
from uuid_utils import uuid7

from errors import Discard
from ledger.archive import Archive
from settings import load

BACKGROUND = 5

log = structlog.get_logger(__name__)


@dramatiq.actor(queue_name="maintenance", priority=BACKGROUND)
def cleanup_audit_log(retention_days: int | None = None) -> None:
    """Move jobs that finished more than ``retention_days`` ago from the history to a file in ``archive_dir``.

    One gzipped JSON document per line and job, with its attempts and its journal.  Without an argument the setting
    decides; 0 does nothing (then the history is kept empty, and there is nothing to archive).

    Idempotent: a batch is deleted after it is on the disk.  A run that dies between the two leaves jobs in its file
    that the next run writes again: a reader takes the last line of each ``id``.
    """
    settings = load()
    days = settings.audit_log_retention_days if retention_days is None else retention_days
    if isinstance(days, bool) or not isinstance(days, int) or days < 0:
        raise Discard(f"retention_days is a number of days of at least 0, got {retention_days!r}")
    if days == 0:
        log.info("audit_log.kept", why="retention_days is 0")
        return
    archive = Archive(settings.database_url)
    # A file of its own for each run: one that died may have left half a line at the end of its file.
    path = Path(settings.archive_dir) / f"history-{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{uuid7().hex[-8:]}.jsonl.gz"
    try:
        before = archive.older_than(timedelta(days=days))
        moved = 0
        while taken := archive.take(before, lambda jobs: append(path, jobs)):
            moved += taken
    finally:
        archive.close()
    log.info("audit_log.archived", jobs=moved, before=before.isoformat(), file=str(path) if moved else None)


def append(path: Path, jobs: Sequence[dict[str, Any]]) -> None:
    """Add one gzip member to the file; it is on the disk when this returns.  Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(job, separators=(",", ":")) + "\n" for job in jobs)
    with path.open("ab") as file:
        file.write(gzip.compress(lines.encode()))
        file.flush()
        os.fsync(file.fileno())

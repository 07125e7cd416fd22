"""Queue ``data-processing``: files of rows, into the database."""

import dramatiq
import structlog
from pydantic import BaseModel

from actors.datasets import begun, keep
from actors.events import Name
from actors.priorities import Priority
from actors.rows import CHUNK, Rows
from actors.sources import opened
from middleware.current import current_job_or_none
from middleware.unique import Unique

log = structlog.get_logger(__name__)


class Processed(BaseModel):
    """What a file held."""

    rows: int
    rejects: int
    rejected: list[str]  #: the first twenty, and why


@dramatiq.actor(
    queue_name="data-processing",
    priority=Priority.LOW,
    time_limit=3_600_000,
    unique=Unique(by=["dataset_id"]),
    store_results=True,
)
def process_data(dataset_id: Name, file: str) -> Processed:
    """Read a CSV, JSON lines or Parquet file into the database, a thousand rows at a time; progress is reported.

    ``file`` is a path in ``data_dir``, or a reference to a web server or an object store that the setting
    ``data_sources`` allows (``actors/sources.py``); ``.csv.gz``, ``.jsonl.zst`` and the like are unpacked on the way.
    Parquet and object stores need ``hareline[data]``.  However large the file, a few pieces of it are in memory.

    Rows that cannot be read are counted, and the first ones named; they keep no other back.

    Idempotent, and resumed at the last finished chunk: rows are stored together with how far it is, so an attempt
    begins where the last one ended, and a run after the end reads nothing.  A file that was changed meanwhile is
    refused: its ETag, or its size and time, are no longer those it was begun with.
    """
    job = current_job_or_none()
    with opened(file) as source:
        state = begun(dataset_id, file, source.fingerprint)
        if state.finished_at is None:
            rows = Rows(source, state.position, state.line)
            for chunk, last in rows.chunks(CHUNK):
                if job is not None:
                    job.check()
                    job.progress(state.position, rows.total, f"{state.rows} rows, {state.rejects} rejected")
                if last:
                    source.check()
                state = keep(state, chunk, last=last)
    log.info("dataset.read", id=dataset_id, rows=state.rows, rejects=state.rejects)
    return Processed(rows=state.rows, rejects=state.rejects, rejected=state.rejected)

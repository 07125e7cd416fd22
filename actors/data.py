"""Queue ``data-processing``: files of rows, into the database."""

from itertools import islice

import dramatiq
import structlog
from pydantic import BaseModel

from actors.datasets import begun, fingerprint, keep, located, rows_of
from actors.events import Name
from actors.priorities import Priority
from middleware.current import current_job_or_none
from middleware.unique import Unique
from settings import load

#: Rows of one transaction.
CHUNK = 1_000

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
    """Read a CSV or JSONL file of ``data_dir`` into the database, a thousand rows at a time; progress is reported.

    Rows that cannot be read are counted, and the first ones named; they keep no other back.

    Idempotent, and resumed at the last finished chunk: rows are stored together with how far it is, so an attempt
    begins where the last one ended, and a run after the end reads nothing.  A file that was changed meanwhile is
    refused.
    """
    path = located(load().data_dir, file)
    state = begun(dataset_id, file, fingerprint(path))
    job = current_job_or_none()
    if state.finished_at is None:
        rows = islice(rows_of(path), state.read, None)
        while True:
            if job is not None:
                job.check()
                job.progress(state.read, note=f"{state.rejects} rejected")
            chunk = list(islice(rows, CHUNK))
            state = keep(state, chunk, last=len(chunk) < CHUNK)
            if state.finished_at is not None:
                break
    log.info("dataset.read", id=dataset_id, rows=state.rows, rejects=state.rejects)
    return Processed(rows=state.rows, rejects=state.rejects, rejected=state.rejected)

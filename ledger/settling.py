"""What became of attempts whose worker died before it could say, as it is to be counted."""

from collections.abc import Sequence

from sqlalchemy import select

from ledger.engine import Database
from ledger.states import RAN, Outcome, State
from ledger.tables import attempts, history, jobs
from metrics.catalogue import DEAD, DURATION, JOBS
from metrics.meter import Change


def settled(url: str, claimed: Sequence[tuple[str, int]]) -> list[Change] | None:
    """Those of these (job, epoch) claims that their worker has ended; None while it still may have.

    So it may as long as a job is active under its claim: what a worker sent before it died may be committed after.
    Raises ``LedgerUnavailable``.
    """
    database = Database(url)
    ids = sorted({job for job, _ in claimed})
    try:
        with database.read() as connection:
            ends = {
                (row.job_id, row.epoch): row
                for row in connection.execute(select(attempts).where(attempts.c.job_id.in_(ids)))
            }
            past = {row.id: row for row in connection.execute(select(history).where(history.c.id.in_(ids)))}
            hot = {row.id: row for row in connection.execute(select(jobs).where(jobs.c.id.in_(ids)))}
    finally:
        database.close()
    changes: list[Change] = []
    for id, epoch in claimed:
        end, live = ends.get((id, epoch)), hot.get(id)
        if end is None:
            if live is not None and live.state == State.ACTIVE and live.epoch == epoch:
                return None
            continue  # it was given back
        job = live or past.get(id)
        if job is None or end.outcome == Outcome.CRASHED:  # who took it back has counted it
            continue
        labels = (job.actor, job.queue, end.outcome)
        changes.append((JOBS, labels, 1))
        if end.outcome in RAN:
            changes.append((DURATION, labels, max(0.0, (end.finished_at - end.started_at).total_seconds())))
        if end.outcome == Outcome.FAILED and job.reason:
            changes.append((DEAD, (job.queue, job.reason), 1))
    return changes

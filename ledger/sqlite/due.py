"""When a job is due."""

from ledger.instants import to_micros
from ledger.records import NewJob
from ledger.sqlite.connection import Transaction
from ledger.states import State


def due(tx: Transaction, job: NewJob) -> tuple[int, State]:
    """Its time, in microseconds since 1970, and the state that puts it in."""
    run_at = to_micros(job.run_at) if job.run_at else tx.now + job.delay_ms * 1000
    return run_at, State.DELAYED if run_at > tx.now else State.WAITING

"""Checkpoints of running jobs: one session for all threads of a process, each call a commit of its own."""

from ledger.ledger import Ledger
from ledger.shared import SharedSession


class Checkpoints:
    """Keeps and finds checkpoints.  Thread-safe; fork-safe; connects at first use.  Raises ``LedgerUnavailable``."""

    def __init__(self, ledger: Ledger) -> None:
        self._session = SharedSession(ledger, "hareline-checkpoints")

    def keep(self, job: str, epoch: int, body: bytes) -> bool:
        """Keep ``body`` for the job's next attempt, durably; false when this epoch is over, and nothing is kept."""
        return self._session.call(lambda session: session.checkpoint(job, epoch, body))

    def find(self, job: str) -> bytes | None:
        """What was kept last, or None."""
        return self._session.call(lambda session: session.kept(job))

    def close(self) -> None:
        self._session.close()

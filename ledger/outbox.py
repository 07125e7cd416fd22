"""Recording jobs in a transaction that somebody else commits."""

from collections.abc import Sequence
from typing import Protocol

from ledger.records import Enqueued, NewJob


class Outbox(Protocol):
    """Somebody's connection to the ledger's database.  One thread at a time.

    What its driver raises passes as it is: the transaction is the caller's to undo, and to try again.
    """

    def record(self, jobs: Sequence[NewJob], *, publish_after_s: float) -> list[Enqueued]:
        """Record jobs as a session's ``enqueue`` does, in the transaction that is under way, and commit nothing.

        On RabbitMQ the relay may send them ``publish_after_s`` from now, once they are committed.

        Raises:
          Refusal: the connection is closed, of another database than the ledger, in no transaction, or in one that
            failed; or a job has a key and the transaction's isolation is not READ COMMITTED.
          LedgerUnavailable: the ledger cannot be reached, to compare it with.
        """
        ...

    @property
    def idle(self) -> bool:
        """No transaction is under way: what was recorded is committed, or undone."""
        ...


class AsyncOutbox(Protocol):
    """The same for an asyncio connection.  One task at a time."""

    async def record(self, jobs: Sequence[NewJob], *, publish_after_s: float) -> list[Enqueued]: ...

    @property
    def idle(self) -> bool: ...

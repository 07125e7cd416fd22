"""Callbacks of Dramatiq groups, counted in the ledger."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from dramatiq import Broker
from dramatiq.broker import MessageProxy
from dramatiq.message import Message
from dramatiq.middleware import GroupCallbacks
from dramatiq.rate_limits import RateLimiterBackend

from ledger.ledger import Ledger
from ledger.records import NewJob
from middleware.attempt import JobMessage


class LedgerBarriers(RateLimiterBackend):
    """What ``group.run()`` needs to set up a barrier; counting down is part of a job's finish."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    def add(self, key: str, value: int, ttl: int) -> bool:
        """Set up the barrier ``key`` for ``value`` jobs, for ``ttl`` milliseconds; false when it exists."""
        session = self.ledger.session("hareline-groups")
        try:
            return session.create_group(key, value, ttl)
        finally:
            session.close()


class Groups(GroupCallbacks):
    """Counts a group's barrier down in the transaction that records the job as completed.

    The last job's callbacks are recorded in that same transaction: once, and never lost between two steps
    (Dramatiq's own decrements first and enqueues later, twice if the job runs twice).

    Callbacks pass the hooks around ``enqueue`` as any send; each job of the group has them asked, for any of them may
    be the last.  Fails closed: a refusal leaves the barrier up, and stands with the attempt.
    """

    def __init__(self, ledger: Ledger, holding: Callable[[list[NewJob]], AbstractContextManager[None]]) -> None:
        super().__init__(LedgerBarriers(ledger))
        self.holding = holding

    def after_process_message(
        self, broker: Broker, message: MessageProxy, *, result: Any = None, exception: BaseException | None = None
    ) -> None:
        if exception is not None or message.failed or not isinstance(message, JobMessage):
            return
        group, callbacks = (
            message.options.get("group_completion_uuid"),
            message.options.get("group_completion_callbacks"),
        )
        if group and callbacks:
            jobs: list[NewJob] = []
            with self.holding(jobs):
                for callback in callbacks:
                    broker.enqueue(Message(**callback))
            message.group, message.group_jobs = group, jobs  # last: a refusal leaves the barrier up

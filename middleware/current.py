"""The job being processed, for the code that an actor runs.

from middleware.current import current_job
"""

from contextvars import ContextVar
from datetime import datetime

from dramatiq import Broker
from dramatiq.broker import MessageProxy
from dramatiq.middleware import CurrentMessage

from errors import Cancelled, NoCurrentJob
from middleware.attempt import JobMessage

__all__ = ["Current", "CurrentJob", "current_job", "current_job_or_none"]


class CurrentJob:
    """One attempt at a job, as the code that runs it sees it.

    Any thread may use it.  The functions that find it do so in the actor's body and in what that calls, awaits
    or starts as a task; a thread that an actor starts is given it.
    """

    __slots__ = ("_message",)

    def __init__(self, message: JobMessage) -> None:
        self._message = message

    @property
    def id(self) -> str:
        """The job's id in the ledger, as in ``hareline jobs show``."""
        return self._message.claim.id

    @property
    def message_id(self) -> str:
        """The id of its Dramatiq message; a message that was sent twice is two jobs."""
        return self._message.message_id

    @property
    def actor(self) -> str:
        """The actor's name."""
        return self._message.actor_name

    @property
    def queue(self) -> str:
        """The queue it came by."""
        return self._message.queue_name

    @property
    def attempt(self) -> int:
        """Which attempt this is, from 1.  Those that crashed, snoozed or were interrupted do not count."""
        return self._message.claim.attempts + 1

    @property
    def attempts(self) -> int:
        """Attempts spent before this one."""
        return self._message.claim.attempts

    @property
    def created_at(self) -> datetime:
        """When it was sent, by the database's clock."""
        assert self._message.claim.created_at is not None, "a claim that runs has it"
        return self._message.claim.created_at

    @property
    def due(self) -> datetime:
        """When this attempt was to start, by the database's clock."""
        assert self._message.claim.due_at is not None, "a claim that runs has it"
        return self._message.claim.due_at

    @property
    def cancelled(self) -> bool:
        """Whether it was asked to stop; known about a second after ``hareline jobs cancel``.  Costs nothing to ask."""
        return self._message.cancelled

    def check(self) -> None:
        """Raise ``Cancelled`` if it was asked to stop: what ends by that is recorded as cancelled."""
        if self._message.cancelled:
            raise Cancelled

    def __repr__(self) -> str:
        return f"<CurrentJob {self.id} {self.actor} on {self.queue}, attempt {self.attempt}>"


_job: ContextVar[CurrentJob | None] = ContextVar("current_job", default=None)


def current_job() -> CurrentJob:
    """The job whose actor called this, however deep.  Raises ``NoCurrentJob`` outside a job."""
    job = _job.get()
    if job is None:
        raise NoCurrentJob(
            "current_job() was called outside a job: call it in an actor's body while a worker runs it (a thread does "
            "not inherit it: pass it on), or ask current_job_or_none()."
        )
    return job


def current_job_or_none() -> CurrentJob | None:
    """The same; None outside a job, as when an actor is called directly."""
    return _job.get()


class Current(CurrentMessage):
    """Dramatiq's CurrentMessage, which forgets to let go of a skipped message; and the current job."""

    def before_process_message(self, broker: Broker, message: MessageProxy) -> None:
        super().before_process_message(broker, message)  # type: ignore[no-untyped-call]
        _job.set(CurrentJob(message) if isinstance(message, JobMessage) else None)

    def after_process_message(
        self, broker: Broker, message: MessageProxy, *, result: object = None, exception: BaseException | None = None
    ) -> None:
        super().after_process_message(broker, message, result=result, exception=exception)  # type: ignore[no-untyped-call]
        _job.set(None)

    def after_skip_message(self, broker: Broker, message: MessageProxy) -> None:
        self._MESSAGE.set(None)
        _job.set(None)

"""What a send returns: the message, and a handle of the job it became.

from middleware.handles import Job
"""

import asyncio
import time
from datetime import timedelta
from typing import Any, Generic, Literal, Protocol, Self, TypeVar, runtime_checkable
from uuid import UUID

from dramatiq import get_broker
from dramatiq.message import Message, get_encoder

from errors import JobCancelled, JobExpired, JobFailed, JobNotFound, NotFinished, ResultNotKept
from ledger.states import Reason, State
from ledger.views import JobStatus, ResultView
from middleware.waiting import pauses

R = TypeVar("R", covariant=True)


@runtime_checkable
class Jobs(Protocol):
    """What handles ask; a broker's ``jobs``."""

    def status(self, id: str) -> JobStatus | None: ...
    def result_of(self, id: str) -> ResultView: ...
    def cancel(self, id: str) -> Literal["cancelled", "requested"]: ...


class Job(Generic[R]):
    """A handle of a job, by its id: ``Job("0190…")``, or what a send returned.

    Thread-safe, costs nothing until it is asked, and can be pickled.  Times are milliseconds (as everywhere in
    Dramatiq), or a ``timedelta``; None is for ever.  Every method that asks raises ``LedgerUnavailable``, and
    ``JobNotFound`` for a job that is not in the ledger: not yet (its transaction is not committed), never (it was
    rolled back) or not any more (retention pruned it).  Each has a twin for asyncio code.

    Raises ``ValueError`` for what is no id.
    """

    def __init__(self, job_id: str) -> None:
        self.job_id = str(UUID(job_id))  #: as in ``hareline jobs show``
        self._jobs: Jobs | None = None

    def status(self) -> JobStatus:
        """How it is doing, now."""
        status = self._office().status(self.job_id)
        if status is None:
            raise JobNotFound(
                f"job {self.job_id} is not in the ledger: its transaction is not committed, or was undone, or the job "
                "was pruned"
            )
        return status

    def wait(self, timeout: float | timedelta | None = None) -> JobStatus:
        """Wait until it has completed, failed or been cancelled.  Raises ``NotFinished`` when time is over."""
        for pause_s in pauses(timeout_s := _seconds(timeout)):
            if (status := self.status()).ended:
                return status
            time.sleep(pause_s)
        raise self._not_finished(timeout_s)

    def result(self, timeout: float | timedelta | None = None) -> R:
        """Wait for it; what its actor returned.

        Raises ``JobFailed`` (of an expired job ``JobExpired``), ``JobCancelled``, ``ResultNotKept``, and
        ``NotFinished`` when time is over; and ``Undecipherable`` when it is encrypted and cannot be opened here.
        """
        return self._result(self.wait(timeout))

    def cancel(self) -> Literal["cancelled", "requested"]:
        """Cancel it: at once unless it runs; then it is asked to stop (``requested``).

        Raises ``IllegalTransition`` when it has ended.
        """
        return self._office().cancel(self.job_id)

    async def status_async(self) -> JobStatus:
        """As :meth:`status`."""
        return await asyncio.to_thread(self.status)

    async def wait_async(self, timeout: float | timedelta | None = None) -> JobStatus:
        """As :meth:`wait`."""
        for pause_s in pauses(timeout_s := _seconds(timeout)):
            if (status := await self.status_async()).ended:
                return status
            await asyncio.sleep(pause_s)
        raise self._not_finished(timeout_s)

    async def result_async(self, timeout: float | timedelta | None = None) -> R:
        """As :meth:`result`."""
        return await asyncio.to_thread(self._result, await self.wait_async(timeout))

    async def cancel_async(self) -> Literal["cancelled", "requested"]:
        """As :meth:`cancel`."""
        return await asyncio.to_thread(self.cancel)

    def _not_finished(self, timeout_s: float | None) -> NotFinished:
        return NotFinished(f"job {self.job_id} has not ended within {timeout_s:g} s; it goes on")

    def _result(self, status: JobStatus) -> R:
        name = f"job {self.job_id} ({status.actor})"
        match status.state:
            case State.CANCELLED:
                raise JobCancelled(f"{name} was cancelled")
            case State.FAILED if status.reason is Reason.EXPIRED:
                raise JobExpired(f"{name} was not tried in time", error=status.error, reason=status.reason)
            case State.FAILED:
                why = status.error or status.reason
                raise JobFailed(f"{name} failed: {why}", error=status.error, reason=status.reason)
        view = self._office().result_of(self.job_id)
        if view.status == "refused":
            raise ResultNotKept(f"{name} completed, and its result was not kept: {view.error_message}")
        if view.body is None:
            raise ResultNotKept(
                f"{name} completed, and there is no result of it: its actor does not say store_results=True, or the "
                "result has expired (result_ttl)"
            )
        value: R = get_encoder().decode(view.body)  # type: ignore[assignment]  # any JSON, not only a mapping
        return value

    def _office(self) -> Jobs:
        jobs = self._jobs or getattr(get_broker(), "jobs", None)
        if not isinstance(jobs, Jobs):
            raise JobNotFound(f"job {self.job_id} cannot be asked for: this process's broker has no ledger; set it")
        return jobs

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_jobs": None}  # where it arrives, that process's broker is asked

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.job_id!r})"


class Sent(Job[R], Message[R]):
    """A message that was sent, and the handle of its job; equal to the message, and encoded like it.

    A copy of it is a message, to be sent again.  Of what commits later (``atomic_sends``, a transaction of yours)
    the job is not there before.
    """

    @classmethod
    def of(cls, message: Message[Any], job_id: str, jobs: Jobs | None) -> Self:
        sent = cls.__new__(cls)
        sent.__dict__.update(message.__dict__, job_id=job_id, _jobs=jobs)  # so, for a message is frozen
        return sent

    def copy(self, **attributes: Any) -> Message[R]:
        return Message(**self.asdict()).copy(**attributes)

    def _replace(self, **changes: Any) -> Message[R]:
        return Message(**{**self.asdict(), **changes})

    def __eq__(self, other: object) -> bool:
        return self.asdict() == other.asdict() if isinstance(other, Message) else NotImplemented

    __hash__ = Message.__hash__
    __repr__ = Message.__repr__


def _seconds(timeout: float | timedelta | None) -> float | None:
    return timeout.total_seconds() if isinstance(timeout, timedelta) else timeout and timeout / 1000

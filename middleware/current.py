"""The job being processed, for the code that an actor runs.

from middleware.current import current_job
"""

import json
import math
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import datetime
from numbers import Real
from typing import Any, Literal

from dramatiq import Broker, Worker
from dramatiq.broker import MessageProxy
from dramatiq.middleware import CurrentMessage

from errors import Cancelled, CheckpointTooLarge, InvalidReport, LeaseLost, NoCurrentJob
from ledger.checkpoints import Checkpoints
from ledger.recorder import Recorder
from ledger.reports import Progress
from ledger.sealing import CHECKPOINT, NOTE
from logs import add_surroundings
from middleware.attempt import JobMessage
from middleware.deadlines import uninterrupted

__all__ = ["Current", "CurrentJob", "current_job", "current_job_or_none"]

#: Longest note that is kept with a job's progress.
MAX_NOTE = 500


class CurrentJob:
    """One attempt at a job, as the code that runs it sees it.

    Any thread may use it.  The functions that find it do so in the actor's body and in what that calls, awaits
    or starts as a task; a thread that an actor starts is given it.
    """

    __slots__ = ("_checkpoints", "_kept", "_max_bytes", "_message", "_recorder")

    def __init__(self, message: JobMessage, recorder: Recorder, checkpoints: Checkpoints, max_bytes: int) -> None:
        self._message = message
        self._recorder = recorder
        self._checkpoints = checkpoints
        self._max_bytes = max_bytes
        self._kept: bytes | Literal["unread"] | None = "unread"

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

    def progress(self, done: float, total: float | None = None, note: str = "") -> None:
        """Say how far it is, as often as you like; ``hareline jobs show`` shows it.  Never waits for the database.

        At most one report a second is written, and always the last one before the attempt ends; others are replaced
        by newer ones.  After the attempt, or when its worker has lost it, nothing is written.

        Parameters:
          done: of the work, in any unit; at least 0, and no more than ``total``.
          total: when it is known.
          note: a few words, of which 500 characters are kept.

        Raises:
          InvalidReport: one of them is something else.
        """
        done = _amount("done", done)
        total = None if total is None else _amount("total", total)
        if total is not None and done > total:
            raise InvalidReport(f"progress of {self!r}: done ({done:.15g}) is more than total ({total:.15g})")
        if not isinstance(note, str):
            raise InvalidReport(f"progress of {self!r}: note is a text, got {note!r}")
        if not self._message.submitted:
            claim = self._message.claim
            note = note[:MAX_NOTE]
            if note and self._message.seal is not None:
                note = self._message.seal.close(NOTE, note)
            with uninterrupted():
                self._recorder.progress(Progress(claim.id, done, total, note), claim.epoch)

    @property
    def state(self) -> Any:
        """What the last ``checkpoint()`` kept, of this attempt or an earlier one; None when there was none.

        A new copy every time.  The first time in an attempt asks the database (raises ``LedgerUnavailable``).
        """
        if self._kept == "unread":
            with uninterrupted():
                kept = self._checkpoints.find(self.id)
            if kept is not None and self._message.seal is not None:
                kept = self._message.seal.open(CHECKPOINT, kept.decode()).encode()
            self._kept = kept
        return None if self._kept is None else json.loads(self._kept)

    def checkpoint(self, state: Any) -> None:
        """Keep ``state`` for the job's next attempt, whatever ends this one; durable when this returns.

        It takes the place of the last one, and takes the database a commit (in an async actor: of the event loop's
        time, unless by ``asyncio.to_thread``).

        Parameters:
          state: plain values, as JSON has them; not None.

        Raises:
          InvalidReport: it cannot be written as JSON.
          CheckpointTooLarge: it is over ``HARELINE_MAX_CHECKPOINT_BYTES``.
          LeaseLost: this attempt is over, or was given up for dead: another one may be running; stop.
          LedgerUnavailable: the database is away; it is not known whether it was kept.
        """
        body = self._encoded(state)
        claim, seal = self._message.claim, self._message.seal
        sealed = body if seal is None else seal.close(CHECKPOINT, body.decode()).encode()
        with uninterrupted():
            if not self._checkpoints.keep(claim.id, claim.epoch, sealed):
                raise LeaseLost(
                    f"checkpoint of {self!r}: this attempt is over, or its worker was silent past its lease and lost "
                    "the job to another; nothing was kept, and how it ends will not be recorded. Let it end."
                )
            self._kept = body

    def _encoded(self, state: Any) -> bytes:
        try:
            body = json.dumps(state, allow_nan=False, separators=(",", ":")).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidReport(
                f"checkpoint of {self!r}: its state cannot be written as JSON ({error}); pass plain values"
            ) from error
        if state is None:
            raise InvalidReport(f"checkpoint of {self!r}: None stands for no checkpoint; pass what to go on from")
        if len(body) > self._max_bytes:
            raise CheckpointTooLarge(
                f"checkpoint of {self!r}: the state is {len(body):,} bytes, the limit is {self._max_bytes:,}; store "
                "the data and keep a reference to it (HARELINE_MAX_CHECKPOINT_BYTES raises the limit)"
            )
        return body

    def __repr__(self) -> str:
        return f"<CurrentJob {self.id} {self.actor} on {self.queue}, attempt {self.attempt}>"


def _amount(name: str, value: object) -> float:
    try:
        amount = math.nan if isinstance(value, bool) or not isinstance(value, Real) else float(value)
    except OverflowError:
        amount = math.inf
    if not 0 <= amount < math.inf:
        raise InvalidReport(f"progress: {name} is a number of at least 0, got {value!r}")
    return amount


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


def _named() -> Mapping[str, object]:
    job = _job.get()
    return {} if job is None else {"job": job.id, "actor": job.actor, "attempt": job.attempt}


class Current(CurrentMessage):
    """Dramatiq's CurrentMessage, which forgets to let go of a skipped message; and the current job.

    What is logged meanwhile, by anybody, has its id, its actor and its attempt.
    """

    def __init__(self, recorder: Recorder, checkpoints: Checkpoints, *, max_checkpoint_bytes: int) -> None:
        self.recorder = recorder
        self.checkpoints = checkpoints
        self.max_checkpoint_bytes = max_checkpoint_bytes
        add_surroundings(_named)

    def before_process_message(self, broker: Broker, message: MessageProxy) -> None:
        super().before_process_message(broker, message)  # type: ignore[no-untyped-call]
        job = None
        if isinstance(message, JobMessage):
            job = CurrentJob(message, self.recorder, self.checkpoints, self.max_checkpoint_bytes)
        _job.set(job)

    def after_process_message(
        self, broker: Broker, message: MessageProxy, *, result: object = None, exception: BaseException | None = None
    ) -> None:
        super().after_process_message(broker, message, result=result, exception=exception)  # type: ignore[no-untyped-call]
        _job.set(None)

    def after_worker_shutdown(self, broker: Broker, worker: Worker) -> None:
        self.checkpoints.close()

    def after_skip_message(self, broker: Broker, message: MessageProxy) -> None:
        self._MESSAGE.set(None)
        _job.set(None)

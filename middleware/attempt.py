"""One try at a job, as the middleware of its message share it."""

import threading
from collections.abc import Callable
from typing import Any

from dramatiq.broker import MessageProxy
from dramatiq.message import Message
from dramatiq.middleware import SkipMessage

from errors import LedgerUnavailable, Refusal, ResultRefused
from ledger.flows.states import StepEnd
from ledger.records import LONGEST_DELAY_MS, Claim, Finish, Finished, NewJob
from ledger.sealing import Seal
from ledger.states import Outcome, Reason

#: Longest text of an error kept with an attempt; tracebacks of recursive code have no natural end.
MAX_ERROR = 2_000
MAX_TRACEBACK = 20_000


class JobMessage(MessageProxy):
    """A claimed message on its way through the middleware.

    Middleware that knows how this attempt ends calls :meth:`end` once; whoever comes first decides.
    Audit records it, after every other hook.  ``settle`` is called when that is committed.
    """

    def __init__(
        self,
        message: Message[Any],
        claim: Claim,
        *,
        settle: Callable[["JobMessage", Finished | None], None],
        body: bytes = b"",
    ) -> None:
        super().__init__(message)
        self.become(message, body)
        self.claim = claim
        self.since = 0.0  # by the monotonic clock: since when it runs, or waits for a slot
        self.over = 0.0  # … and when it had ended
        self.settle = settle
        self.seal: Seal | None = None  # it has secrets, and what it leaves is to be sealed
        self.ending: Finish | None = None
        self.submitted = False  # how it ended is handed over; nothing can be added
        self.entered = False  # it has slots in gates
        self.parted = False  # it is blocked, and not this worker's any more: there is nothing to record
        self.cancelled = False  # it was asked to stop, and knows it
        self.troubles: list[str] = []  # after-hooks that failed, for whoever reads the attempt
        self.result: bytes | None = None
        self.result_ttl_ms = 0
        self.result_error: ResultRefused | None = None  # why there is none
        self.follow_ups: list[NewJob] = []
        self.group: str | None = None
        self.group_jobs: list[NewJob] = []
        self.step: StepEnd | None = None  # the step of a flow that this job is, and what it brings home

    def become(self, message: Message[Any], body: bytes) -> None:
        """Take the message, and the bytes it came as, for its own."""
        self._message = message
        self.body = body
        # Plain attributes: MessageProxy's __getattr__ costs a failed lookup at each of the dozen reads per job.
        self.queue_name = message.queue_name
        self.actor_name = message.actor_name
        self.args = message.args
        self.kwargs = message.kwargs
        self.options = message.options
        self.message_id = message.message_id
        self.message_timestamp = message.message_timestamp

    @property
    def message(self) -> "JobMessage":
        """Itself: Dramatiq's worker threads take the message out of the item they are given."""
        return self

    @property
    def exception(self) -> BaseException | None:
        """What the actor, or a middleware before it, raised."""
        return self._exception

    def end(self, outcome: Outcome, *, reason: Reason | None = None, delay_ms: int = 0) -> None:
        """Decide how this attempt ends; a second decision is ignored."""
        if self.ending is None:
            delay_ms = min(max(0, delay_ms), LONGEST_DELAY_MS)
            gated = self.entered or self.claim.sequenced
            self.ending = Finish(
                self.claim.id, self.claim.epoch, outcome, reason=reason, delay_ms=delay_ms, gated=gated
            )
            self.failed = outcome is Outcome.FAILED

    def stop_unless_open(self, middleware: object, error: Exception) -> None:
        """A hook before the body failed; raises what keeps the body from running, if that is not to run without it.

        Dramatiq logs what a hook raises, and runs the actor.  Without the database nothing runs that asked it; past
        middleware that says ``fails_closed``, nothing at all.
        """
        if isinstance(error, LedgerUnavailable):
            self.end(Outcome.INTERRUPTED)
            raise SkipMessage(str(error)) from error
        if getattr(middleware, "fails_closed", False):
            self.end(Outcome.FAILED, reason=Reason.REFUSED)
            name = type(middleware).__name__
            raise Refusal(f"{self.actor_name}: {name} failed, and it does not run without ({error!r})") from error


class Capture(threading.local):
    """Where this thread's enqueues are held back, to commit with a finish: in after-hooks, and for ``atomic_sends``."""

    into: list[NewJob] | None = None
    hooks: bool = False  #: after-hooks of a job are running: a refusal would reach nobody
    secret: bool = False  #: and that job has secrets

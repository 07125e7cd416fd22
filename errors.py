"""Everything that can go wrong, in one tree.

    HarelineError
    ├── SettingsError              a knob is unknown or its value is wrong
    ├── LedgerError
    │   ├── LedgerUnavailable      the database cannot be reached; nothing was recorded
    │   │   └── LedgerBusy         it answers, but somebody has locked what was asked for
    │   ├── QuestionTooSlow        a search was not answered in its time; it has to be narrowed
    │   └── SchemaMismatch         the database's revision is not the one this code knows
    ├── BrokerError
    │   ├── BrokerUnavailable      RabbitMQ cannot be reached
    │   └── TopologyError          a queue exists with other arguments, or may not be declared
    ├── Refusal                    (also a dramatiq MiddlewareError) send() refused the message
    │   ├── InvalidPayload         the arguments do not fit the actor's signature
    │   ├── PayloadTooLarge
    │   ├── Forbidden              the actor does not allow this producer
    │   ├── QueueFull              as many jobs wait there as may
    │   └── QueueDraining          it takes no new jobs until an operator says so
    ├── Undecipherable             (also a dramatiq MiddlewareError) what is encrypted does not open: a key is missing
    ├── BadInput                   what a person gave cannot be used
    ├── NotFound                   a queue, an actor, a limit … that was named does not exist
    ├── Denied                     who asks may not do this: another role, or other queues, are needed
    │   └── ReadOnly               nobody may change anything by this console now
    ├── NotAuthenticated           who asks must say who they are: log in, or send a token
    ├── Throttled                  too many tries; says when the next one is heard
    ├── BadAccount                 (also a ValueError) no user or token can be made like that
    ├── UnmappedOperation          an operation that no role is needed for: nobody said who may do it
    ├── JobNotFound
    ├── NoResult                   a job has none to give
    │   ├── JobFailed              it is a dead letter
    │   │   └── JobExpired         it was not tried in time
    │   ├── JobCancelled
    │   ├── ResultNotKept          it completed, but its result was not stored, or has expired
    │   └── NotFinished            (also a TimeoutError) it has not ended in the time it was waited for
    ├── FlowNotFound
    ├── FlowFailed                 its result was asked for, and it failed or was cancelled
    ├── InvalidWorkflow            (also a ValueError) a workflow cannot be declared, or started, like that
    ├── UnknownSignal              (also a ValueError) nothing in the workflow waits for it
    ├── InvalidDualWrite           (also a ValueError) synchronous code cannot be moved to a job like that
    ├── BadSchedule                a schedule cannot work as it is written
    ├── ScheduleNotFound
    ├── NoCurrentJob               current_job() was called outside a job
    ├── InvalidReport              (also a ValueError) a running job said something that cannot be recorded
    │   └── CheckpointTooLarge
    ├── ResultRefused              (also a dramatiq ResultError) a job is completed, but its result was not kept
    │   ├── InvalidResult          it does not fit the actor's return annotation
    │   └── ResultTooLarge
    ├── LeaseLost                  the job belongs to another worker now
    ├── IllegalTransition          the job is in a state from which this cannot be done
    ├── InvalidActor               an actor cannot be declared like that
    ├── InvalidListener            (also a ValueError) a listener cannot be declared like that
    │   └── UnknownEvent           nothing of that name is told, there or in the feed
    ├── TooManyStreams             one who asks has as many streams of events open as they may
    ├── BadCursor                  (also a ValueError) it is no place in the feed of events, or of a search
    ├── BadQuery                   (also a ValueError) a search cannot be understood
    ├── OperationNotFound
    ├── CountChanged               so many jobs as were expected are not there any more; nothing was begun
    ├── EventsLost                 what happened behind a cursor is not kept any more
    └── WrongMiddleware            a stock middleware that would lose jobs here

    Raised by actors, to say how this attempt ends:
    Retry (dramatiq's own)         again later; spends an attempt
    Discard                        a dead letter now, no more attempts
    Failure                        the same, with a code; may also be returned
    Snooze                         again later; spends no attempt
    Cancelled (an Interrupt)       it stops, for it was asked to; if it was not, an ordinary failure
    RateLimited                    as Snooze, and nothing of the job's rate limits starts before

Every message says what, which one, and what to do.
"""

import difflib
import re
from collections.abc import Iterable, Sequence
from datetime import timedelta

from dramatiq.errors import Retry
from dramatiq.middleware import Interrupt, MiddlewareError
from dramatiq.results.errors import ResultError

__all__ = [
    "BadAccount",
    "BadCursor",
    "BadQuery",
    "BadSchedule",
    "BrokerError",
    "BrokerUnavailable",
    "Cancelled",
    "CheckpointTooLarge",
    "CountChanged",
    "Discard",
    "EventsLost",
    "Failure",
    "FlowFailed",
    "FlowNotFound",
    "Forbidden",
    "HarelineError",
    "IllegalTransition",
    "InvalidActor",
    "InvalidDualWrite",
    "InvalidListener",
    "InvalidPayload",
    "InvalidReport",
    "InvalidResult",
    "InvalidWorkflow",
    "JobCancelled",
    "JobExpired",
    "JobFailed",
    "JobNotFound",
    "LeaseLost",
    "LedgerError",
    "LedgerUnavailable",
    "NoCurrentJob",
    "NoResult",
    "NotAuthenticated",
    "NotFinished",
    "NotFound",
    "OperationNotFound",
    "PayloadTooLarge",
    "QuestionTooSlow",
    "QueueDraining",
    "QueueFull",
    "RateLimited",
    "ReadOnly",
    "Refusal",
    "ResultNotKept",
    "ResultRefused",
    "ResultTooLarge",
    "Retry",
    "ScheduleNotFound",
    "SchemaMismatch",
    "SettingsError",
    "Snooze",
    "Throttled",
    "TooManyStreams",
    "TopologyError",
    "Undecipherable",
    "UnknownEvent",
    "UnknownSignal",
    "UnmappedOperation",
    "WrongMiddleware",
]


def nearest(name: str, known: Iterable[str]) -> str:
    """``did you mean …?``, or what there is: for messages about a name that nothing has."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]}?"
    return f"there are: {', '.join(known)}" if known else "there are none"


class HarelineError(Exception):
    """The root of everything this project raises."""


class SettingsError(HarelineError):
    """Raised when a setting is unknown or has a value that cannot be used."""


class LedgerError(HarelineError):
    """Raised when the ledger could not do what was asked."""


class LedgerUnavailable(LedgerError):
    """Raised when the database cannot be reached, or broke off; whatever was asked may be asked again."""


class LedgerBusy(LedgerUnavailable):
    """Raised when the database answers, but not this in time: another transaction has locked what it needs."""


class QuestionTooSlow(LedgerError):
    """Raised when a search or a count was not answered within its time; says what makes it faster."""


class SchemaMismatch(LedgerError):
    """Raised when the database is at a revision this code does not know."""


class BrokerError(HarelineError):
    """Raised when RabbitMQ could not do what was asked."""


class BrokerUnavailable(BrokerError):
    """Raised when RabbitMQ cannot be reached."""


class TopologyError(BrokerError):
    """Raised when a queue cannot be declared as the topology says."""


class Refusal(HarelineError, MiddlewareError):
    """Raised by ``send()`` when a policy refuses the message; nothing was recorded."""


class InvalidPayload(Refusal):
    """Raised by ``send()`` when arguments do not fit the actor's signature; names every one, and what was expected.

    A job that was recorded all the same (by an older or a foreign producer) ends with it as a dead letter.

    Parameters:
      actor: the actor's name.
      problems: one text for each value that does not fit: its path, what was expected, what was given.
    """

    def __init__(self, actor: str, problems: Sequence[str]) -> None:
        super().__init__(f"the arguments do not fit the signature of actor {actor!r}: {'; '.join(problems)}")
        self.actor = actor
        self.problems = tuple(problems)


class PayloadTooLarge(Refusal):
    """Raised by ``send()`` when the encoded message is over the limit; pass a reference instead."""


class Forbidden(Refusal):
    """Raised by ``send()`` when the actor's ``allowed_producers`` do not name this producer; nothing was recorded.

    A job that was recorded, or a foreign message, ends with it as a dead letter.
    """


class QueueFull(Refusal):
    """Raised by ``send()`` when as many jobs of its queue have not ended as its ``max_waiting`` allows; send later."""


class QueueDraining(Refusal):
    """Raised by ``send()`` while an operator has the queue drained; what is in it runs, and no new job comes in."""


class Undecipherable(HarelineError, MiddlewareError):
    """Raised when an envelope cannot be opened; names the key.  A job that needs it ends as a dead letter."""


class BadInput(HarelineError):
    """Raised when what a person gave cannot be used; says what would do."""


class NotFound(HarelineError):
    """Raised when a queue, an actor, a limit or a circuit that was named does not exist; names the nearest."""


class Denied(HarelineError):
    """Raised when who asks may not do this; says what would be needed."""


class ForeignRequest(Denied):
    """Raised for what no page of this console, as it is now, has sent: another site's form, or an old one."""


class ReadOnly(Denied):
    """Raised for every change while ``console_read_only`` is set, whoever asks."""


class NotAuthenticated(HarelineError):
    """Raised when nobody is logged in, or the token or the password given is not good; never says which."""


class Throttled(HarelineError):
    """Raised when a name or an address has tried too often.

    Parameters:
      retry_after_s: whole seconds until the next try is heard.
    """

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class BadAccount(HarelineError, ValueError):
    """Raised where a user or a token is made or changed, when it cannot be like that."""


class UnmappedOperation(HarelineError):
    """Raised at start-up when an operation stands in no permission map; it would be anybody's."""


class JobNotFound(HarelineError):
    """Raised when no job has the given id."""


class NoResult(HarelineError):
    """Raised by a handle's ``result()``: which job has none, and why."""


class JobFailed(NoResult):
    """Raised by ``result()`` of a job that is a dead letter.

    Parameters:
      error: type and text of its last error, if an attempt had one.
      reason: why it is a dead letter, as in ``hareline dead ls``.
    """

    def __init__(self, message: str, *, error: str | None, reason: str | None) -> None:
        super().__init__(message)
        self.error = error
        self.reason = reason


class JobExpired(JobFailed):
    """Raised by ``result()`` of a job that was not tried within its ``expires``."""


class JobCancelled(NoResult):
    """Raised by ``result()`` of a job that was cancelled."""


class ResultNotKept(NoResult):
    """Raised by ``result()`` of a job that completed: its actor does not store results, or this one has expired."""


class NotFinished(NoResult, TimeoutError):
    """Raised by ``result()`` and ``wait()`` when the time given is over and the job has not ended."""


class FlowNotFound(HarelineError):
    """Raised when no flow has the given id: it never had, or was over long ago."""


class FlowFailed(HarelineError):
    """Raised when the result of a flow is asked for that failed or was cancelled; names the steps, and their errors."""


class InvalidWorkflow(HarelineError, ValueError):
    """Raised where a workflow is declared, or started with arguments it does not take; nothing was recorded."""


class UnknownSignal(HarelineError, ValueError):
    """Raised when a flow is sent a signal that no step of its workflow waits for."""


class InvalidDualWrite(HarelineError, ValueError):
    """Raised when a dual write cannot be declared like that."""


class BadSchedule(HarelineError, ValueError):
    """Raised when a schedule cannot work as it is written; it names the schedule and what to correct."""


class ScheduleNotFound(HarelineError):
    """Raised when no schedule has the given key."""


class NoCurrentJob(HarelineError):
    """Raised by ``current_job()`` outside the body of a running job."""


class InvalidReport(HarelineError, ValueError):
    """Raised by ``current_job()``'s ``progress()`` and ``checkpoint()``, given something that cannot be recorded."""


class CheckpointTooLarge(InvalidReport):
    """Raised by ``checkpoint()`` when the encoded state is over the limit; keep a reference instead."""


class ResultRefused(HarelineError, ResultError):
    """Raised by ``get_result()``: the job is completed, but what it returned could not be kept; it is not run again."""

    def __init__(self, message: str) -> None:
        super().__init__(message)  # type: ignore[no-untyped-call]


class InvalidResult(ResultRefused):
    """Raised by ``get_result()`` when what the actor returned does not fit its annotation, or cannot be JSON."""


class ResultTooLarge(ResultRefused):
    """Raised by ``get_result()`` when what the actor returned is over the limit; let it return a reference instead."""


class LeaseLost(HarelineError):
    """Raised by ``checkpoint()`` when the attempt is over, or its worker lost it to another; nothing was kept."""


class IllegalTransition(HarelineError):
    """Raised when a job is in a state from which the asked change cannot be made."""


class InvalidActor(HarelineError, MiddlewareError, ValueError):
    """Raised where an actor is declared, when an option or an annotation of it cannot be used."""


class InvalidListener(HarelineError, ValueError):
    """Raised where a listener is declared, or when its worker starts, when it could never hear anything."""


class UnknownEvent(InvalidListener):
    """Raised when something listens to, or follows, an event that does not exist; names the nearest."""


class BadCursor(HarelineError, ValueError):
    """Raised when a text is not a place in the feed of events, or of a search."""


class BadQuery(HarelineError, ValueError):
    """Raised when a search cannot be understood; names what, and the nearest that could be meant."""


class OperationNotFound(HarelineError):
    """Raised when no bulk operation has this id."""


class CountChanged(HarelineError):
    """Raised when a bulk operation would meet more than a tenth more, or fewer, jobs than was expected."""


class TooManyStreams(HarelineError):
    """Raised to who opens one more stream of events at the console than they may have; close another."""


class EventsLost(HarelineError):
    """Raised to who follows the feed of events from a place behind which not everything is kept.

    Nothing is skipped silently: `hareline events seek` says where to go on.
    """


class WrongMiddleware(HarelineError):
    """Raised when a stock middleware that would lose jobs here is added to the broker."""


class Discard(HarelineError):
    """Raised by an actor: this job can never succeed; keep it as a dead letter, without retries."""


class Failure(HarelineError):
    """Returned (or raised) by an actor: this job has failed, and another attempt would fail as well.

    It is a dead letter at once, reason ``failure``, and has no result; what follows a failure follows it.

    Parameters:
      error: what went wrong, a text or an exception.
      code: a word for programs, in the place of the error's type: letters, digits, dashes and underscores.
    """

    def __init__(self, error: str | BaseException, *, code: str | None = None) -> None:
        if code is not None and not re.fullmatch(r"[\w-]{1,100}", code):
            raise ValueError(f"Failure: its code has letters, digits, dashes and underscores, got {code!r}")
        super().__init__(f"{type(error).__name__}: {error}" if isinstance(error, BaseException) else error)
        self.code = code


class Snooze(HarelineError):
    """Raised by an actor: not now; run again after ``delay`` without spending an attempt.

    Parameters:
      delay: milliseconds (as everywhere in Dramatiq), or a ``timedelta``.
    """

    def __init__(self, delay: int | timedelta, message: str = "") -> None:
        super().__init__(message or f"snoozed for {delay}")
        self.delay_ms = int(delay.total_seconds() * 1000) if isinstance(delay, timedelta) else int(delay)
        if self.delay_ms < 0:
            raise ValueError(f"Snooze needs a delay of at least 0 ms, got {delay!r}")


class Cancelled(Interrupt):
    """Raised in a running job that was asked to stop: by ``current_job().check()``, or after a grace wherever it is.

    No ``Exception``, so that ``except Exception`` in an actor does not keep it running.
    """

    def __init__(self, message: str = "the job was asked to stop") -> None:
        super().__init__(message)


class RateLimited(Snooze):
    """Raised by an actor: the other side asked to be left alone (an HTTP 429); spends no attempt.

    Besides this job, no other of its rate limits (option ``rate_limit``) starts before the time is over.

    Parameters:
      retry_after: milliseconds (as everywhere in Dramatiq), or a ``timedelta``.
    """

    def __init__(self, retry_after: int | timedelta, message: str = "") -> None:
        super().__init__(retry_after, message or f"asked to come back in {retry_after}")

"""Between a road and Dramatiq: what happens to a job once it is claimed, and once it has ended."""

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from dramatiq.errors import DecodeError
from dramatiq.message import Message

from broker.adoption import checked
from broker.intake import Intake
from ledger.flows.states import OPTION
from ledger.recorder import Recorder
from ledger.records import Claim, Due, Finish, Finished, NewJob
from ledger.states import Outcome, Reason, State
from middleware.aliases import Aliases
from middleware.attempt import MAX_ERROR, JobMessage
from middleware.flows import step_of

logger = logging.getLogger(__name__)

#: During a rolling deploy a message may reach a process that does not know its actor yet; another may.
UNKNOWN_ACTOR_RETRY_MS = 5_000

Send = Callable[[list[NewJob | Due]], None]
Told = Callable[[Claim, Message[Any] | None, Finish, Finished], None]
Counted = Callable[[Claim, Message[Any] | None, Finish, Finished, tuple[float, float]], None]
Letter = Callable[[Claim, Message[Any] | None, bytes, Finish], None]


class Desk:
    """Admits claimed jobs to their intake, and tells the rest of the system how they ended.

    Parameters:
      actors: the broker's actors, by name.
      aliases: their former names.
      send: publishes the jobs that a finish has recorded.
      bury: told of each job that became a dead letter.
      told: told of how each attempt ended; may neither wait nor raise.
      counted: told the same, also of what was not accepted, and when it began and ended (zeros: it did not run).
      blocked: told of jobs that found a gate full.
    """

    def __init__(
        self,
        recorder: Recorder,
        actors: Mapping[str, Any],
        aliases: Aliases,
        *,
        send: Send,
        bury: Letter,
        unknown_actor_grace_s: float,
        told: Told | None = None,
        counted: Counted | None = None,
        blocked: Callable[[Claim, str], None] | None = None,
    ) -> None:
        self.recorder = recorder
        self.actors = actors
        self.aliases = aliases
        self.send = send
        self.bury = bury
        self.unknown_actor_grace_s = unknown_actor_grace_s
        self.told = told
        self.counted = counted
        self.blocked = blocked

    def admit(self, claim: Claim, body: bytes, intake: Intake, done: Callable[[], None]) -> None:
        """Put a claimed job before the workers.  ``done`` is called once, when how it ended is committed.

        Whatever the message is: its room in the intake is given back and the job recorded, or given back.
        """
        try:
            message = checked(body)
            actor = self.aliases.of(message.actor_name)
            known = actor in self.actors
            runnable = _runnable(message, claim, intake.queue, actor)
        except Exception as error:
            if not isinstance(error, DecodeError):
                logger.exception("job %s: its message cannot be made ready to run", claim.id)
            kind, text = type(error).__name__, str(error.__cause__ or error)
            self._end(claim, None, body, intake, done, Outcome.FAILED, Reason.MALFORMED, kind, text)
            return
        if not known:
            self._unknown_actor(claim, message, body, intake, done)
            return

        def settled(job: JobMessage, answer: Finished | None) -> None:
            done()
            if answer is not None:
                assert job.ending is not None
                self._ended(claim, runnable, body, job.ending, answer, (job.since, job.over))
            elif job.parted and self.blocked is not None:
                self.blocked(claim, runnable.actor_name)

        intake.admit(JobMessage(runnable, claim, settle=settled, body=body))

    def _unknown_actor(
        self, claim: Claim, message: Message[Any], body: bytes, intake: Intake, done: Callable[[], None]
    ) -> None:
        name = message.actor_name
        if time.monotonic() - claim.due_since < self.unknown_actor_grace_s:
            logger.warning(
                "job %s is for actor %r, which is not declared here; another worker may know it", claim.id, name
            )
            outcome, reason = Outcome.PARKED, None
        else:
            outcome, reason = Outcome.FAILED, Reason.UNKNOWN_ACTOR
        text = f"no actor named {name!r} is declared in this worker; declare it, or retry the job once it is deployed"
        self._end(claim, message, body, intake, done, outcome, reason, "ActorNotFound", text, UNKNOWN_ACTOR_RETRY_MS)

    def _end(
        self,
        claim: Claim,
        message: Message[Any] | None,
        body: bytes,
        intake: Intake,
        done: Callable[[], None],
        outcome: Outcome,
        reason: Reason | None,
        error_type: str,
        error: str,
        delay_ms: int = 0,
    ) -> None:
        finish = Finish(claim.id, claim.epoch, outcome, reason, error_type, error[:MAX_ERROR], delay_ms=delay_ms)
        finish.gated = claim.sequenced
        if message is not None and OPTION in message.options:
            with suppress(KeyError, TypeError, ValueError):
                finish.step = step_of(message.options[OPTION])

        def answered(answer: Finished) -> None:
            done()
            self._ended(claim, message, body, finish, answer)

        try:
            self.recorder.finish(finish, answered)
        except Exception:
            logger.critical("job %s could not be recorded; it is given back within a lease", claim.id, exc_info=True)
            self.recorder.forget(claim.id, claim.epoch)
            done()
        finally:
            intake.vacate()

    def _ended(
        self,
        claim: Claim,
        message: Message[Any] | None,
        body: bytes,
        finish: Finish,
        answer: Finished,
        ran: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        if self.counted is not None:
            self.counted(claim, message, finish, answer, ran)
        if not answer.accepted:
            logger.error(
                "job %s ended (%s) after this worker's lease on it was lost; it was given to another and ran twice",
                claim.id,
                finish.outcome,
            )
            return
        if answer.send:
            self.send(list(answer.send))
        if answer.state is State.FAILED:
            self.bury(claim, message, body, finish)
        if self.told is not None:
            self.told(claim, message, finish, answer)


def _runnable(message: Message[Any], claim: Claim, queue: str, actor: str) -> Message[Any]:
    """The message as Dramatiq's worker threads may have it."""
    # The queue it came by, not the one it names: Dramatiq looks its consumer up by this and dies on a stranger.
    if message.queue_name != queue or message.actor_name != actor:
        message = message.copy(queue_name=queue, actor_name=actor)
    if claim.attempts:
        message.options["retries"] = claim.attempts
    message.options.pop("eta", None)  # the ledger has kept it waiting; Dramatiq would park it in memory
    message.options.pop("throws", None)  # never an exception class; Dramatiq's worker thread would die of it
    return message

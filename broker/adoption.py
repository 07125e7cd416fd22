"""Messages that Hareline did not send: made into jobs, or kept as dead letters."""

import hashlib
import logging
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

from dramatiq.errors import DecodeError
from dramatiq.message import Message, generate_unique_id, get_encoder

from errors import Forbidden, Refusal
from ledger.lane import Lane
from ledger.ledger import Ledger, Session
from ledger.records import Buried, Enqueued, Key, Line, NewJob
from ledger.states import Event, Reason, State
from middleware.permissions import RABBITMQ

logger = logging.getLogger(__name__)

#: Namespace of the ids given to foreign messages: the same message adopted twice is the same job.
NAMESPACE = uuid.UUID("3f6f1d5e-6d0a-5b0e-9a41-6f1c1f2b9d01")


#: W3C trace context: the AMQP headers of a foreign message, and the options in which ours carry it.
TRACE_HEADERS = ("traceparent", "tracestate")
MAX_TRACE_HEADER = 512


@dataclass(slots=True)
class Foreign:
    """A message without a ticket, or one whose job is gone.

    ``adopted`` is called with the job when it may be claimed; ``settled`` when the message is done with
    (kept as a dead letter, or recorded as a later job).
    """

    queue: str
    message_id: str | None
    body: bytes
    priority: int
    adopted: Callable[[NewJob], None]
    settled: Callable[[Buried | None], None]
    buried: Buried | None = None
    user: str | None = None  #: who published it, as RabbitMQ has verified
    headers: Mapping[str, Any] = field(default_factory=dict)


class Received(NamedTuple):
    """What is to be recorded of a foreign message, and of its job."""

    message: Message[Any]
    key: Key | None = None
    line: Line | None = None
    expires_ms: int | None = None


#: Asks whether a user may send a message, and what becomes of it.
Receive = Callable[[Message[Any], str | None], Received]


class Adoption:
    """Turns foreign messages into jobs, a batch at a time, on a thread of its own.  Starts at first use.

    Parameters:
      receive: what is recorded of a message.
    """

    def __init__(self, ledger: Ledger, receive: Receive) -> None:
        self._ledger = ledger
        self._receive = receive
        self._lane: Lane[Foreign] | None = None
        self._lock = threading.Lock()

    def put(self, foreign: Foreign) -> None:
        """Adopt or bury one message.  Never blocks.  Any thread."""
        with self._lock:
            if self._lane is None:
                lane: Lane[Foreign] = Lane("adoption", self._ledger.session, self._write, spoiled=self._spoiled)
                lane.start()
                self._lane = lane
            self._lane.put(foreign, block=False)

    def stop(self) -> None:
        """Write what is left and end the thread; a later message starts another.  Idempotent."""
        with self._lock:
            lane, self._lane = self._lane, None
        if lane is not None:
            lane.stop()

    def _write(self, session: Session, batch: list[Foreign]) -> None:
        jobs: list[tuple[Foreign, NewJob]] = []
        for foreign in batch:
            if foreign.buried is None:
                try:
                    jobs.append((foreign, adopt(foreign, self._receive)))
                except (DecodeError, Refusal) as error:
                    foreign.buried = malformed(foreign, error)
        answers = session.enqueue([job for _, job in jobs]) if jobs else []
        letters = [foreign.buried for foreign in batch if foreign.buried is not None]
        if letters:
            session.bury(letters)
        for foreign in batch:
            if foreign.buried is not None:
                logger.error("a message on %s was kept as a dead letter: %s", foreign.queue, foreign.buried.error)
                foreign.settled(foreign.buried)
        for (foreign, job), answer in zip(jobs, answers, strict=True):
            self._answer(foreign, job, answer)

    def _answer(self, foreign: Foreign, job: NewJob, answer: Enqueued) -> None:
        if answer.state is State.DELAYED or answer.id != job.id:  # another job has its key, or has become it
            foreign.settled(None)
        else:
            foreign.adopted(job)

    def _spoiled(self, session: Session, foreign: Foreign, error: Exception) -> None:
        foreign.buried = malformed(foreign, error)
        session.bury([foreign.buried])
        foreign.settled(foreign.buried)


def adopt(foreign: Foreign, receive: Receive) -> NewJob:
    """A foreign Dramatiq message as a job of the queue it came by.

    ``queue_name`` becomes that queue, ``eta`` (milliseconds since 1970) the time it is due, a bad ``eta``
    now, as in Dramatiq.  Without a ``message_id`` it is known by the one of its AMQP properties; without that
    too it cannot be told from another, and is a new job each time.  The trace context of its AMQP headers goes into
    its options, where ours have it.  Raises ``DecodeError`` when the bytes are not a Dramatiq message, ``Refusal``
    when it is to be one of a kind and has no key, or its user may not send it.
    """
    message, queue = checked(foreign.body), foreign.queue
    eta = message.options.pop("eta", None)
    due = isinstance(eta, (int, float)) and not isinstance(eta, bool) and eta > time.time() * 1000
    if not get_encoder().decode(foreign.body).get("message_id"):
        message = message.copy(message_id=foreign.message_id or generate_unique_id())
    for name in TRACE_HEADERS:
        if isinstance(context := foreign.headers.get(name), str):
            message.options.setdefault(name, context[:MAX_TRACE_HEADER])
    received = receive(message.copy(queue_name=queue), foreign.user)
    return NewJob(
        id=str(uuid.uuid5(NAMESPACE, f"{queue}:{message.message_id}")),
        message_id=message.message_id,
        queue=queue,
        actor=message.actor_name,
        priority=foreign.priority,
        body=received.message.encode(),
        run_at=datetime.fromtimestamp(min(eta / 1000, 253402300799), UTC) if due else None,
        producer="foreign" if foreign.user is None else f"{foreign.user}@{RABBITMQ}",
        served=not due,
        event=Event.ADOPTED,
        key=received.key,
        line=received.line,
        expires_ms=received.expires_ms,
    )


def malformed(foreign: Foreign, error: Exception) -> Buried:
    """The dead letter of bytes that are no message, or of one that may not be a job.

    The same bytes on the same queue are the same letter.
    """
    id = letter_id(foreign.queue, foreign.body)
    refused = isinstance(error, Refusal)
    reason = Reason.REFUSED if refused else Reason.MALFORMED
    return Buried(
        id=id,
        message_id=foreign.message_id or id,
        queue=foreign.queue,
        actor="",
        body=foreign.body,
        reason=Reason.FORBIDDEN if isinstance(error, Forbidden) else reason,
        error=(str(error) if refused else f"not a Dramatiq message: {error.__cause__ or error}")[:1000],
    )


def letter_id(queue: str, body: bytes, more: str = "") -> str:
    """The id of a dead letter that never was a job: the same for the same bytes, should they be delivered again."""
    return str(uuid.uuid5(NAMESPACE, f"{queue}:{hashlib.sha256(body).hexdigest()}{more}"))


def checked(body: bytes) -> Message[Any]:
    """A Dramatiq message whose fields have the types Dramatiq relies on.  Raises ``DecodeError``."""
    message = Message.decode(body)
    well = (
        isinstance(message.actor_name, str)
        and isinstance(message.message_id, str)
        and isinstance(message.kwargs, Mapping)
        and isinstance(message.options, dict)
    )
    if not well:
        error = TypeError("actor_name, message_id, kwargs or options has the wrong type")
        raise DecodeError("fields of the wrong type", body, error)
    return message

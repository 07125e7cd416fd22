"""Dramatiq's broker, with a ledger under it."""

import asyncio
import atexit
import functools
import os
import re
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar

from dramatiq import Actor
from dramatiq.errors import QueueJoinTimeout, QueueNotFound
from dramatiq.message import Message

from broker.actors import Actor as AsyncActor
from broker.ends import Exit
from broker.hooks import Hooks
from broker.intake import Intake
from broker.jobs import LedgerJobs
from broker.making import job_of
from broker.options import ActorOptions
from broker.road import Road
from broker.room import Room
from broker.sizes import Sizes
from broker.transactional import block
from ledger.ledger import Ledger
from ledger.recorder import Recorder
from ledger.records import Enqueued, Keep, NewJob
from ledger.schedules import Schedule
from ledger.sealing import KeyRing
from ledger.states import LIVE, State
from middleware.aliases import Aliases
from middleware.comparing import Comparer
from middleware.deadlines import uninterrupted
from middleware.encryption import Encryption
from middleware.handles import Sent
from middleware.listeners import Listeners
from middleware.permissions import Permissions
from middleware.schema import Schemas
from middleware.sequence import Sequences
from middleware.unique import handle
from settings import PRODUCER

if TYPE_CHECKING:
    from broker.queue_names import QueueNames
    from control.feed import Feed
    from ledger.queries import Queries
    from middleware.metering import Metering
    from middleware.tracing import Tracing

_UNTRACED = nullcontext()
_ACTING: ContextVar[str] = ContextVar("producer", default="")

R = TypeVar("R")
T = TypeVar("T")


class Broker(Hooks):
    """Records every message as a job before anything else happens to it, then lets a road carry it.

    Safe to use from any thread and in forked children; asyncio code has ``enqueue_async`` and its actors'
    ``send_async``.  Creating one does no I/O.
    """

    def __init__(
        self,
        recorder: Recorder,
        url: str,
        *,
        max_payload_bytes: int,
        concurrency: Sizes,
        ring: KeyRing | None = None,
        producer: str = "",
    ) -> None:
        super().__init__()
        self.actor_options = ActorOptions()
        self.aliases = Aliases()
        self.schemas = Schemas()
        self.ring = ring or KeyRing()
        self.encryption = Encryption(self.ring, self.schemas, self.aliases, self._recorded)
        self.permissions = Permissions(self.aliases, self._recorded)
        self.producer = producer  #: by which actors know this process
        self.sequences = Sequences()
        self.recorder = recorder
        self._url = url
        self.max_payload_bytes = max_payload_bytes
        self.concurrency = concurrency
        self.road: Road  # set by build(): the road needs the broker's actors, the broker its road
        self.ledger: Ledger
        self.room: Room
        self.queue_names: QueueNames
        self.jobs: LedgerJobs  #: what handles ask
        self.listeners: Listeners
        self.tracing: Tracing | None = None
        self.metering: Metering | None = None
        self.exit = Exit()
        self.max_age_ms: float | None = None  #: of jobs that say nothing of ``expires``
        self.keep: Mapping[str, Keep] = {}  #: retention of queues that do not go by the settings
        self._exit_hook = False
        self.place = self.sender = ""  #: host:pid, and the same with the producer's name
        self._forked()
        os.register_at_fork(after_in_child=self._forked)

    @functools.cached_property
    def queries(self) -> "Queries":
        """The ledger's readers.  Made when first asked for: SQLAlchemy takes most of a second to import."""
        from ledger.queries import Queries

        return Queries(self._url)

    @functools.cached_property
    def dual_writes(self) -> Comparer:
        """What functions of :func:`middleware.dual_write.dual_write` have handed over."""
        return Comparer(self, self._url)

    def feed(
        self,
        name: str | None = None,
        *,
        after: str | None = None,
        names: Iterable[str] | None = None,
        actor: str | None = None,
        queue: str | None = None,
        wait: bool = True,
    ) -> "Feed":
        """What happens to jobs, in any process, for whoever must miss nothing: see :class:`control.feed.Feed`."""
        from control.feed import Feed

        return Feed(self._url, name, after=after, names=names, actor=actor, queue=queue, wait=wait)

    @contextmanager
    def holding(self, into: list[NewJob]) -> Iterator[None]:
        """Within it, what this thread enqueues is not recorded but added to ``into``."""
        outer, self.capture.into = self.capture.into, into
        try:
            yield
        finally:
            self.capture.into = outer

    # -- sending
    @property
    def captures(self) -> bool:
        """Whether what this thread enqueues is held back, to commit with a finish."""
        return self.capture.into is not None

    def enqueue(self, message: Message[R], *, delay: int | None = None) -> Sent[R]:
        """Record a message as a job and let it travel.  It is committed when this returns.

        Returns the message as a handle of its job, or where ``unique`` refused it a ``Duplicate``: the handle of the
        job that is there.

        Called by an after-hook of a job being finished, or in the body of an actor with ``atomic_sends``, it only
        adds to what commits with that finish; in a :class:`~broker.transactional.transactional` block, to the
        caller's transaction.

        Parameters:
          delay: milliseconds, counted from the database's clock.

        Raises:
          Refusal: a policy refuses the message; nothing was recorded.
          LedgerUnavailable: the database is away; nothing was recorded.
        """
        self._ask_room()
        with self._traced([message]):
            self.emit_before("enqueue", message, delay)
            job = job_of(self, message, delay=delay)
            [answer] = self._accept([job])
            sent = handle(message, job, answer, self.jobs)
            self.emit_after("enqueue", sent, delay)
        return sent

    def enqueue_many(self, messages: Iterable[Message[R]], *, delay: int | None = None) -> list[Sent[R]]:
        """Record many messages in one transaction, all or none, and let them travel.

        Returns and raises the same as :meth:`enqueue`.
        """
        messages = list(messages)
        self._ask_room()
        with self._traced(messages):
            jobs = self._prepared(messages, delay)
            return self._sent(messages, jobs, self._accept(jobs), delay) if jobs else []

    async def enqueue_async(self, message: Message[R], *, delay: int | None = None) -> Sent[R]:
        """As :meth:`enqueue`, and the event loop goes on meanwhile.

        Many at once share commits.  When it is cancelled while it waits, the job is recorded or not.
        """
        [sent] = await self.enqueue_many_async([message], delay=delay)
        return sent

    async def enqueue_many_async(self, messages: Iterable[Message[R]], *, delay: int | None = None) -> list[Sent[R]]:
        """As :meth:`enqueue_many`, and the event loop goes on meanwhile; cancelled, all are recorded or none."""
        messages = list(messages)
        if self.room.stale:
            await asyncio.to_thread(self.room.ask)
        with self._traced(messages):
            jobs = self._prepared(messages, delay)
            return self._sent(messages, jobs, await self._accept_async(jobs), delay) if jobs else []

    def _traced(self, messages: list[Message[R]]) -> AbstractContextManager[object]:
        return self.tracing.sending(messages) if self.tracing is not None and messages else _UNTRACED

    def _prepared(self, messages: list[Message[R]], delay: int | None) -> list[NewJob]:
        for message in messages:
            self.emit_before("enqueue", message, delay)
        return [job_of(self, message, delay=delay) for message in messages]

    def _sent(
        self, messages: list[Message[R]], jobs: list[NewJob], answers: list[Enqueued], delay: int | None
    ) -> list[Sent[R]]:
        sent = [handle(*one, self.jobs) for one in zip(messages, jobs, answers, strict=True)]
        for message in sent:
            self.emit_after("enqueue", message, delay)
        return sent

    def check_schedule(self, schedule: Schedule) -> None:
        """Raise ``BadSchedule``, which names it, unless its actor exists and takes its message."""
        from broker.ticks import check

        check(self, schedule)

    def enqueue_tick(self, message: Message[Any], tick: tuple[str, Any]) -> bool:
        """Record a message for a schedule's (key, fire time).

        False when that tick was recorded before, or ``unique`` refused its message.  Raises as :meth:`enqueue`.
        """
        if self.tracing is not None:
            with self.tracing.sending([message]):
                return self._enqueue_tick(message, tick)
        return self._enqueue_tick(message, tick)

    def _enqueue_tick(self, message: Message[Any], tick: tuple[str, Any]) -> bool:
        self._ask_room()
        self.emit_before("enqueue", message, None)
        [answer] = self._accept([job_of(self, message, tick=tick)])
        self.emit_after("enqueue", message, None)
        return not answer.duplicate

    @property
    def acting(self) -> str:
        """Whom :meth:`sent_by` named."""
        return _ACTING.get()

    @contextmanager
    def sent_by(self, producer: str) -> Iterator[None]:
        """Within it, what this thread or task sends is sent by ``producer``, whoever the process is.

        For servers that send on behalf of others whom they have identified, by a token say.  Raises ``ValueError``.
        """
        if not PRODUCER.fullmatch(producer):
            raise ValueError(f"a producer's name is letters, digits, dot, dash and underscore, got {producer!r}")
        token = _ACTING.set(producer)
        try:
            yield
        finally:
            _ACTING.reset(token)

    def _recorded(self, id: str) -> tuple[str, bytes] | None:
        return self.queries.recorded(id)

    def _accept(self, jobs: list[NewJob]) -> list[Enqueued]:
        """Record them, or see to it that they will be."""
        if (inside := block()) is None:
            if self.capture.into is not None:
                return self._hold(jobs)
            with uninterrupted():
                return self._record(jobs)
        self._flush_later()
        with uninterrupted():
            return inside.record(self, jobs)

    async def _accept_async(self, jobs: list[NewJob]) -> list[Enqueued]:
        inside = block()
        if inside is not None and inside.is_async:
            self._flush_later()
            return await inside.record_async(self, jobs)
        if inside is not None or self.capture.into is not None:
            return self._accept(jobs)
        if self.room.draining or any(job.counted for job in jobs):  # the look into its queue waits for the ledger
            return await asyncio.to_thread(self._record, jobs)
        self._flush_later()
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[list[Enqueued]] = loop.create_future()
        self.recorder.enqueue_soon(jobs, functools.partial(_tell, loop, answered))
        return await answered

    def _ask_room(self) -> None:
        # Who has begun a transaction in a SQLite file may hold its lock, before there is a ledger in it.
        held = block() is not None and self.ledger.url.startswith("sqlite")
        if self.capture.into is None and not held and self.room.stale:
            with uninterrupted():
                self.room.ask()

    def _hold(self, jobs: list[NewJob]) -> list[Enqueued]:
        assert self.capture.into is not None
        self.capture.into.extend(jobs)
        return [Enqueued(job.id, State.WAITING) for job in jobs]

    def _record(self, jobs: list[NewJob]) -> list[Enqueued]:
        self._flush_later()
        if not self.room.watched:
            return self.recorder.enqueue(jobs)
        with self.room.taken(jobs):
            return self.recorder.enqueue(jobs)

    def _flush_later(self) -> None:
        if not self._exit_hook:
            self._exit_hook = True
            atexit.register(self._flush_at_exit, os.getpid())

    # -- actors and queues
    def declare_actor(self, actor: Actor[Any, Any]) -> None:
        """Declare an actor to this process; one of Dramatiq's own class is given the methods for asyncio code."""
        if type(actor) is Actor:
            actor.__class__ = AsyncActor
        super().declare_actor(actor)

    def get_actor(self, actor_name: str) -> Actor[Any, Any]:
        """An actor, by its name or an alias.  Raises ``ActorNotFound``."""
        return super().get_actor(self.aliases.of(actor_name))

    def declare_queue(self, queue_name: str) -> None:
        """Declare a queue to this process; RabbitMQ's own queue is made when first used.  Idempotent."""
        if queue_name in self.queues:
            return
        if queue_name.endswith((".XQ", ".DQ")) or not re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9._-]{0,200}", queue_name):
            raise ValueError(
                f"Queue name {queue_name!r}: use letters, digits, dot, dash and underscore, start with a letter, "
                "and do not end in .XQ or .DQ."
            )
        self.emit_before("declare_queue", queue_name)
        self.queues[queue_name] = None
        self.emit_after("declare_queue", queue_name)

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 30_000) -> Intake:
        """Bring in jobs of a queue.  ``prefetch`` is ignored: the queue's concurrency decides."""
        if queue_name not in self.queues:
            raise QueueNotFound(queue_name)
        return self.road.consume(queue_name, timeout / 1000)

    def join(self, queue_name: str, *, timeout: int | None = None) -> None:
        """Wait until no job of a queue is delayed, waiting or active.  For tests.  ``timeout`` in milliseconds."""
        deadline = time.monotonic() + timeout / 1000 if timeout is not None else None
        while LIVE & self.queries.counts().get(queue_name, {}).keys():
            if deadline is not None and time.monotonic() >= deadline:
                raise QueueJoinTimeout(queue_name)
            time.sleep(0.02)

    def flush(self, queue_name: str) -> None:
        """Drop all jobs of a queue that have not started: they are cancelled, and stay in the history."""
        self.cancel_waiting(queue_name)

    def flush_all(self) -> None:
        for queue_name in self.get_declared_queues():
            self.flush(queue_name)

    #: Set by build(): cancelling is an operator's verb, in control/.
    cancel_waiting: Callable[[str], object]

    def close(self) -> None:
        """Flush and close everything.  Idempotent; :attr:`queries` open again when they are asked."""
        if "dual_writes" in vars(self):
            self.dual_writes.close()
        self.recorder.flush_sends(5.0)
        self.road.close()
        self.recorder.stop()
        if "queries" in vars(self):
            self.queries.close()  # opens again when somebody asks again
        self.room.close()
        self.jobs.close()

    def _forked(self) -> None:
        self.place = f"{socket.gethostname()}:{os.getpid()}"
        self.sender = f"{self.producer}@{self.place}" if self.producer else self.place
        self._exit_hook = False

    def _flush_at_exit(self, pid: int) -> None:
        if pid == os.getpid():
            self.recorder.flush_sends(5.0)
            self.road.flush(5.0)
            self.recorder.flush(5.0)


def concurrency_of(queues: Mapping[str, int], default: int) -> Callable[[str], int]:
    """How many jobs of a queue may run at once in one process."""

    def concurrency(queue: str) -> int:
        return queues.get(queue, default)

    return concurrency


def _tell(
    loop: asyncio.AbstractEventLoop, answered: "asyncio.Future[list[Enqueued]]", answer: list[Enqueued] | Exception
) -> None:
    """From another thread; nobody listens when the send was cancelled, or its loop was closed."""

    def tell() -> None:
        if answered.done():
            return
        if isinstance(answer, Exception):
            answered.set_exception(answer)
        else:
            answered.set_result(answer)

    with suppress(RuntimeError):
        loop.call_soon_threadsafe(tell)

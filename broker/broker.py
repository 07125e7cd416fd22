"""Dramatiq's broker, with a ledger under it."""

import atexit
import functools
import os
import re
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar

import dramatiq
from dramatiq import Actor
from dramatiq.errors import QueueJoinTimeout, QueueNotFound
from dramatiq.message import Message
from dramatiq.middleware import AgeLimit, Middleware, MiddlewareError, ShutdownNotifications, TimeLimit
from dramatiq.middleware import Retries as StockRetries
from uuid_utils import uuid7

from broker.intake import Intake
from broker.options import ActorOptions
from broker.road import Road
from broker.room import Room
from errors import PayloadTooLarge, Refusal, WrongMiddleware
from ledger.ledger import Ledger
from ledger.recorder import Recorder
from ledger.records import LONGEST_DELAY_MS, Enqueued, Keep, Key, NewJob
from ledger.schedules import Schedule
from ledger.sealed import SEALED
from ledger.sealing import KeyRing
from ledger.states import LIVE
from middleware.aliases import Aliases
from middleware.attempt import Capture, JobMessage
from middleware.deadlines import expires_ms, uninterrupted
from middleware.encryption import Encryption
from middleware.permissions import FOLLOWS, Permissions
from middleware.schema import Schemas
from middleware.unique import handle, key_of
from settings import PRODUCER

if TYPE_CHECKING:
    from ledger.queries import Queries

#: Stock middleware that would lose jobs here, and what does its work instead.
REPLACED: dict[type[Middleware], str] = {
    StockRetries: "middleware.retries.Retries, with the same options",
    AgeLimit: "middleware.deadlines.Deadlines (option max_age)",
    TimeLimit: "middleware.deadlines.Deadlines (option time_limit)",
    ShutdownNotifications: "middleware.deadlines.Deadlines (option notify_shutdown)",
}

NORMAL = 3

_ACTING: ContextVar[str] = ContextVar("producer", default="")

T = TypeVar("T")


class Broker(dramatiq.Broker):
    """Records every message as a job before anything else happens to it, then lets a road carry it.

    Safe to use from any thread, from asyncio code (``send()`` takes about a millisecond), and in forked
    children.  Creating one does no I/O.
    """

    def __init__(
        self,
        recorder: Recorder,
        url: str,
        *,
        max_payload_bytes: int,
        concurrency: Callable[[str], int],
        ring: KeyRing | None = None,
        producer: str = "",
    ) -> None:
        self._hooks: dict[str, list[Callable[..., None]]] = {}
        super().__init__(middleware=[])
        self.actor_options = ActorOptions()
        self.aliases = Aliases()
        self.schemas = Schemas()
        self.ring = ring or KeyRing()
        self.encryption = Encryption(self.ring, self.schemas, self.aliases, self._recorded)
        self.permissions = Permissions(self.aliases, self._recorded)
        self.producer = producer  #: by which actors know this process
        self.recorder = recorder
        self._url = url
        self.max_payload_bytes = max_payload_bytes
        self.concurrency = concurrency
        self.road: Road  # set by build(): the road needs the broker's actors, the broker its road
        self.ledger: Ledger
        self.room: Room
        self.max_age_ms: float | None = None  #: of jobs that say nothing of ``expires``
        self.keep: Mapping[str, Keep] = {}  #: retention of queues that do not go by the settings
        self._capture = Capture()
        self._exit_hook = False
        self._place = self._sender = ""
        self._forked()
        os.register_at_fork(after_in_child=self._forked)

    @functools.cached_property
    def queries(self) -> "Queries":
        """The ledger's readers.  Made when first asked for: SQLAlchemy takes most of a second to import."""
        from ledger.queries import Queries

        return Queries(self._url)

    # -- middleware
    def add_middleware(
        self,
        middleware: Middleware,
        *,
        before: type[Middleware] | None = None,
        after: type[Middleware] | None = None,
    ) -> None:
        if instead := REPLACED.get(type(middleware)):
            raise WrongMiddleware(
                f"Dramatiq's {type(middleware).__name__} would lose jobs here; leave it out, {instead} does its work."
            )
        super().add_middleware(middleware, before=before, after=after)
        self._hooks = {}

    def _hook(self, name: str) -> list[Callable[..., None]]:
        """The hooks that do something, in list order.  Most do not, and there are fourteen calls for every job."""
        hooks = self._hooks.get(name)
        if hooks is None:
            nothing = getattr(Middleware, name)
            hooks = [
                getattr(middleware, name)
                for middleware in self.middleware
                if getattr(type(middleware), name, nothing) is not nothing or name in vars(middleware)
            ]
            self._hooks[name] = hooks
        return hooks

    def emit_before(self, signal: str, *args: Any, **kwargs: Any) -> None:
        for hook in self._hook("before_" + signal):
            try:
                hook(self, *args, **kwargs)
            except MiddlewareError:
                raise
            except Exception:
                if signal == "worker_boot":
                    raise  # a worker without its place in the ledger must not start
                self.logger.critical("Unexpected failure in %s.", hook, exc_info=True)

    def emit_after(self, signal: str, *args: Any, **kwargs: Any) -> None:
        hooks = self._hook("after_" + signal)
        if not hooks:
            return
        message = args[0] if args and isinstance(args[0], JobMessage) else None
        try:
            if message is not None:
                self._capture.hooks = True
            for hook in reversed(hooks):
                if message is not None:  # once its finish is handed over, nothing can be added to it
                    self._capture.into = None if message.submitted else message.follow_ups
                    self._capture.secret = message.seal is not None
                try:
                    hook(self, *args, **kwargs)
                except Exception as error:
                    if self._capture.secret:  # its text may quote what is
                        self.logger.critical("Unexpected failure in %s: %s.", hook, type(error).__name__)
                    else:
                        self.logger.critical("Unexpected failure in %s.", hook, exc_info=True)
                    if message is not None:
                        message.troubles.append(f"{type(hook.__self__).__name__}: {error}")
        finally:
            if message is not None:
                self._capture.into, self._capture.hooks, self._capture.secret = None, False, False

    @contextmanager
    def holding(self, into: list[NewJob]) -> Iterator[None]:
        """Within it, what this thread enqueues is not recorded but added to ``into``."""
        outer, self._capture.into = self._capture.into, into
        try:
            yield
        finally:
            self._capture.into = outer

    # -- sending
    def enqueue(self, message: Message[Any], *, delay: int | None = None) -> Message[Any]:
        """Record a message as a job and let it travel.  It is committed when this returns.

        Returns the message, or where ``unique`` refused it a ``Duplicate``: the handle of the job that is there.

        Called by an after-hook of a job being finished, or in the body of an actor with ``atomic_sends``, it only
        adds to what commits with that finish.

        Parameters:
          delay: milliseconds, counted from the database's clock.

        Raises:
          Refusal: a policy refuses the message; nothing was recorded.
          LedgerUnavailable: the database is away; nothing was recorded.
        """
        self.emit_before("enqueue", message, delay)
        job = self.new_job(message, delay=delay)
        into = self._capture.into
        if into is not None:
            into.append(job)
        else:
            with uninterrupted():
                [answer] = self._record([job])
            message = handle(message, job, answer)
        self.emit_after("enqueue", message, delay)
        return message

    def enqueue_many(self, messages: Iterable[Message[Any]], *, delay: int | None = None) -> list[Message[Any]]:
        """Record many messages in one transaction, all or none, and let them travel.

        Returns and raises the same as :meth:`enqueue`.
        """
        messages = list(messages)
        for message in messages:
            self.emit_before("enqueue", message, delay)
        jobs = [self.new_job(message, delay=delay) for message in messages]
        if self._capture.into is not None:
            self._capture.into.extend(jobs)
        elif jobs:
            with uninterrupted():
                messages = list(map(handle, messages, jobs, self._record(jobs)))
        for message in messages:
            self.emit_after("enqueue", message, delay)
        return messages

    def check_schedule(self, schedule: Schedule) -> None:
        """Raise ``BadSchedule``, which names it, unless its actor exists and takes its message."""
        from broker.ticks import check

        check(self, schedule)

    def enqueue_tick(self, message: Message[Any], tick: tuple[str, Any]) -> bool:
        """Record a message for a schedule's (key, fire time).

        False when that tick was recorded before, or ``unique`` refused its message.
        """
        self.emit_before("enqueue", message, None)
        [answer] = self._record([self.new_job(message, tick=tick)])
        self.emit_after("enqueue", message, None)
        return not answer.duplicate

    def new_job(
        self, message: Message[Any], *, delay: int | None = None, tick: tuple[str, Any] | None = None
    ) -> NewJob:
        """The job a message will be.  Raises ``Refusal`` when it cannot be one."""
        if delay is not None and (
            isinstance(delay, bool) or not isinstance(delay, (int, float)) or not 0 <= delay <= LONGEST_DELAY_MS
        ):
            raise Refusal(
                f"{message.actor_name}: a delay is a number of milliseconds from 0 to {LONGEST_DELAY_MS} (a hundred "
                f"years), got {delay!r}."
            )
        if message.actor_name in self.aliases.actors:
            message = message.copy(actor_name=self.aliases.of(message.actor_name))
        producer = self._permitted(message)
        message, clear = self._sealed(message)
        try:
            body = message.encode()
        except (TypeError, ValueError) as error:
            raise Refusal(
                f"{message.actor_name}: its arguments cannot be written as JSON ({error}); annotate the parameter, or "
                "pass plain values."
            ) from error
        if len(body) > self.max_payload_bytes:
            raise PayloadTooLarge(
                f"{message.actor_name}: the message is {len(body):,} bytes, the limit is {self.max_payload_bytes:,}; "
                "store the data and pass a reference to it (HARELINE_MAX_PAYLOAD_BYTES raises the limit)."
            )
        actor = self.actors.get(message.actor_name)
        return NewJob(
            id=str(uuid7()),
            message_id=message.message_id,
            queue=message.queue_name,
            actor=message.actor_name,
            priority=_priority(actor, message),
            body=body,
            delay_ms=int(delay or 0),
            tick=tick,
            producer=producer,
            key=self._asked(lambda: key_of(actor, clear)),
            counted=not delay and message.queue_name in self.room.limits,
            expires_ms=self._asked(lambda: expires_ms(actor, message, self.max_age_ms)),
        )

    def _permitted(self, message: Message[Any]) -> str:
        """Who sends it, as the ledger records it.  Raises ``Forbidden``."""
        name = _ACTING.get()
        if not name and not self.permissions.allowed:
            return self._sender
        name = name or self.producer
        if self.permissions.allowed:
            if not self._capture.hooks:
                self.permissions.demand(message, name)
            elif message.actor_name in self.permissions.allowed:
                name = FOLLOWS
        return f"{name}@{self._place}" if name else self._place

    def _sealed(self, message: Message[Any]) -> tuple[Message[Any], Message[Any]]:
        """The message as it is recorded, and in clear."""
        hooks, whole = self._capture.hooks, self._capture.hooks and self._capture.secret
        if SEALED in message.options:
            try:
                message, all_of_it = self.encryption.opened(message)
            except Refusal:
                if hooks and not whole:
                    return message, message  # another worker may have the key
                raise
            whole = whole or all_of_it
        # What a hook sends is recorded whether it fits or not: a dead letter can be seen and mended.
        message = self.schemas.written(message, refuse=not hooks)
        return self.encryption.sealed(message, whole=whole), message

    def received(self, message: Message[Any], user: str | None) -> tuple[Message[Any], Key | None]:
        """A foreign message as it is recorded, and the key of its job.  Raises ``Refusal``."""
        self.permissions.demand(message, user or "")
        actor = self.actors.get(self.aliases.of(message.actor_name))
        key = key_of(self.actors.get(message.actor_name), message)
        if actor is None or SEALED in message.options or self.encryption.mode(actor.actor_name) is None:
            return message, key
        named = message.copy(actor_name=actor.actor_name)
        try:
            return self.encryption.sealed(self.schemas.written(named, refuse=False)), key
        except Refusal:  # of a key that is missing here; it came in clear, and is run where the keys are
            return message, key

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

    def _asked(self, find: Callable[[], T | None]) -> T | None:
        """What an option asks for; of what a hook sends, nothing where it would be refused: it is recorded without."""
        try:
            return find()
        except Refusal:
            if self._capture.hooks:
                return None
            raise

    def _record(self, jobs: list[NewJob]) -> list[Enqueued]:
        if not self._exit_hook:
            self._exit_hook = True
            atexit.register(self._flush_at_exit, os.getpid())
        if not self.room.limits:
            return self.recorder.enqueue(jobs)
        with self.room.taken(jobs):
            return self.recorder.enqueue(jobs)

    # -- consuming
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
        self.road.close()
        self.recorder.stop()
        if "queries" in vars(self):
            self.queries.close()  # opens again when somebody asks again
        self.room.close()

    def _forked(self) -> None:
        self._place = f"{socket.gethostname()}:{os.getpid()}"
        self._sender = f"{self.producer}@{self._place}" if self.producer else self._place
        self._exit_hook = False

    def _flush_at_exit(self, pid: int) -> None:
        if pid == os.getpid():
            self.road.flush(5.0)
            self.recorder.flush(5.0)


def concurrency_of(queues: Mapping[str, int], default: int) -> Callable[[str], int]:
    """How many jobs of a queue may run at once in one process."""

    def concurrency(queue: str) -> int:
        return queues.get(queue, default)

    return concurrency


def _priority(actor: Actor[Any, Any] | None, message: Message[Any]) -> int:
    """1 to 5, of the message or its actor; Dramatiq's own default of 0 means nothing was said."""
    priority = message.options.get("priority")
    if priority is None:
        priority = actor.priority if actor is not None else 0
    if isinstance(priority, bool) or not isinstance(priority, int):
        raise Refusal(f"{message.actor_name}: priority is 1 (critical) to 5 (background), got {priority!r}.")
    return min(5, max(1, priority)) if priority else NORMAL

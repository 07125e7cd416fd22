"""Interrupts actors that run too long, and those that must stop: they were cancelled, or their worker shuts down."""

import ctypes
import functools
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from dramatiq import Actor, Broker, Middleware, Worker
from dramatiq.broker import MessageProxy
from dramatiq.logging import get_logger
from dramatiq.message import Message
from dramatiq.middleware import Interrupt, MiddlewareError, Shutdown, SkipMessage, TimeLimitExceeded

from errors import Cancelled, InvalidActor, Refusal
from ledger.records import LONGEST_DELAY_MS
from ledger.states import Outcome, Reason
from middleware.attempt import JobMessage

_running = threading.local()


@contextmanager
def uninterrupted() -> Iterator[None]:
    """No interrupt lands in this thread inside the block: one that comes meanwhile is raised at its end.

    For code of ours that an actor calls: an interrupt between any two of its lines could leave a lock taken for
    ever, or half a transaction.
    """
    body: _Body | None = getattr(_running, "body", None)
    if body is None:
        yield
        return
    outer = body.shielded
    try:
        body.shield(True)
        yield
    finally:
        body.shield(outer)


class _Body:
    """The stretch of one thread during which, and only during which, an interrupt may land in it."""

    __slots__ = (
        "_lock", "_missed", "_open", "cancel_grace_s", "deadline", "kind", "message", "notify_shutdown", "shielded",
        "thread",
    )  # fmt: skip

    def __init__(self, message: JobMessage, limit_s: float, notify_shutdown: bool, cancel_grace_s: float) -> None:
        self.message = message
        self.thread = threading.get_ident()
        self.deadline = time.monotonic() + limit_s
        self.kind: type[Interrupt] = TimeLimitExceeded
        self.notify_shutdown = notify_shutdown
        self.cancel_grace_s = cancel_grace_s
        self._lock = threading.Lock()
        self._open = True
        self.shielded = False
        self._missed = False

    def shield(self, up: bool) -> None:
        """Keep interrupts off, or let them through again and raise the one that was kept off."""
        with self._lock:
            self.shielded = up
            missed = self._missed and not up
            self._missed = self._missed and up
        if missed:
            raise self.kind

    def interrupt(self) -> bool:
        """Whether it is running still.  Raises ``LookupError`` when the interpreter does not know its thread."""
        with self._lock:
            if self._open and self.shielded:
                self._missed = True
            elif self._open:
                told = ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    ctypes.c_ulong(self.thread), ctypes.py_object(self.kind)
                )
                if not told:
                    raise LookupError(f"no thread has the number {self.thread}")
            return self._open

    def close(self) -> None:
        with self._lock:
            self._open = False
            # One may have been set and not delivered yet: after this line it never will be.
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self.thread), None)


def expiry_ms(actor: Mapping[str, Any], message: Mapping[str, Any], default: float | None) -> float | None:
    """What the options say of ``expires``, in milliseconds; None for never, and for what is no time."""
    for options in (message, actor):
        for name in ("expires", "max_age"):
            if name in options:
                value = options[name]
                return value if _is_time(value) and value <= LONGEST_DELAY_MS else None
    return default


def expires_ms(actor: Actor[Any, Any] | None, message: Message[Any], default: float | None) -> int | None:
    """The same for a message that is being sent.  Raises ``Refusal`` for what is no time."""
    if wrong := _wrong_expiry(message.options):
        raise Refusal(f"{message.actor_name}: {wrong}")
    value = expiry_ms(actor.options if actor is not None else {}, message.options, default)
    return None if value is None else int(value)


def _wrong_expiry(options: Mapping[str, Any]) -> str:
    for name in ("expires", "max_age"):
        if (value := options.get(name)) is not None and not _is_time(value):
            return f"{name} is a number of milliseconds of at least 1, or None, got {value!r}"
    return ""


def _is_time(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 1


class Deadlines(Middleware):
    """The last middleware, closest to the actor's body.

    An interrupt that lands in an after-hook kills its worker thread (Dramatiq's own TimeLimit can do
    that), so the body of every actor is bracketed: interrupts are delivered inside it or not at all.

    Actor and message options:
      time_limit: milliseconds an attempt may run, then ``TimeLimitExceeded`` is raised in it (retried
        as any error); ``float("inf")`` for no limit.  Default, also where it is no number above 0: the setting
        ``time_limit_ms``.
      expires: milliseconds after which a job that was not tried yet is not wanted any more: a dead letter, reason
        ``expired``, whether a worker comes to it or not; counted from when it became due: its send (of a foreign
        message: its adoption), the end of its delay, or an operator's retry.  ``float("inf")`` or None for never.
        Default: the setting ``max_age_ms``.
      max_age: Dramatiq's name for the same.
      notify_shutdown: raise ``Shutdown`` in it as soon as the worker is told to stop, instead of after
        the grace; an attempt ended by it is not spent.
      cancel_grace: milliseconds an attempt may go on once it knows that it was asked to stop, then ``Cancelled`` is
        raised in it; 0 for at once, ``float("inf")`` for never.  Default: the setting ``cancel_grace_s``.  A job that
        was asked to stop before its body began is cancelled without it.

    CPython only; like every asynchronous exception, an interrupt waits for the next Python bytecode.
    Fails open: an interrupt that cannot be raised is logged, and the attempt runs on.
    """

    def __init__(
        self, *, time_limit_ms: float, max_age_ms: float | None, grace_s: float, cancel_grace_s: float
    ) -> None:
        self.time_limit_ms = time_limit_ms
        self.max_age_ms = max_age_ms
        self.grace_s = grace_s
        self.cancel_grace_s = cancel_grace_s
        self.logger = get_logger(__name__, type(self))
        self._current = threading.local()
        self._lock = threading.Condition()
        self._bodies: set[_Body] = set()
        self._working = False
        self._next = float("inf")  # when the watcher wakes by itself
        self._shutdown_at = float("inf")  # when the worker was told to stop
        self._asked: frozenset[tuple[str, int]] = frozenset()  # (job, epoch) pairs that are to stop

    @property
    def actor_options(self) -> set[str]:
        return {"time_limit", "expires", "max_age", "notify_shutdown", "cancel_grace"}

    def before_declare_actor(self, broker: Broker, actor: Actor[Any, Any]) -> None:
        _check_grace(actor.actor_name, actor.options, InvalidActor)
        if wrong := _wrong_expiry(actor.options):
            raise InvalidActor(f"actor {actor.actor_name!r}: {wrong}")

    def before_enqueue(self, broker: Broker, message: Message[Any], delay: int | None) -> None:
        _check_grace(message.actor_name, message.options, Refusal)

    def after_declare_actor(self, broker: Broker, actor: Actor[Any, Any]) -> None:
        actor.fn = self._bracket(actor.fn)

    def before_worker_boot(self, broker: Broker, worker: Worker) -> None:
        self._working, self._shutdown_at = True, float("inf")
        threading.Thread(target=self._watch, name="hareline-deadlines", daemon=True).start()

    def before_process_message(self, broker: Broker, message: MessageProxy) -> None:
        if not isinstance(message, JobMessage):
            return
        actor = broker.get_actor(message.actor_name)
        expires = expiry_ms(actor.options, message.options, self.max_age_ms)
        age_s = time.monotonic() - message.claim.due_since
        if expires is not None and age_s * 1000 >= expires and not message.claim.tried:
            message.end(Outcome.FAILED, reason=Reason.EXPIRED)
            raise SkipMessage(f"it was to be tried within {expires} ms (expires, or max_age)")
        if _key(message) in self._asked:
            message.cancelled = True
            message.end(Outcome.CANCELLED)
            raise SkipMessage("it was asked to stop before it began")
        said = (message.options, actor.options)
        limit = _said(said, "time_limit", _is_limit, self.time_limit_ms)
        grace = _said(said, "cancel_grace", _is_grace, self.cancel_grace_s * 1000)
        notify = message.options.get("notify_shutdown", actor.options.get("notify_shutdown"))
        self._current.plan = (message, limit / 1000, bool(notify), grace / 1000)

    def after_process_message(
        self, broker: Broker, message: MessageProxy, *, result: Any = None, exception: BaseException | None = None
    ) -> None:
        self._current.plan = None

    def after_skip_message(self, broker: Broker, message: MessageProxy) -> None:
        self._current.plan = None

    def before_worker_shutdown(self, broker: Broker, worker: Worker) -> None:
        with self._lock:
            self._shutdown_at = time.monotonic()
            for body in self._bodies:
                self._hasten(body)
            self._lock.notify()

    def after_worker_shutdown(self, broker: Broker, worker: Worker) -> None:
        with self._lock:
            self._working = False
            self._lock.notify()

    def cancel(self, asked: Iterable[tuple[str, int]]) -> None:
        """These (job, epoch) pairs of this process were asked to stop; again and again while they run.  Any thread."""
        with self._lock:
            self._asked = frozenset(asked)
            for body in self._bodies:
                self._tell(body)
            self._lock.notify()

    def _tell(self, body: _Body) -> None:
        if body.message.cancelled or _key(body.message) not in self._asked:
            return
        body.message.cancelled = True
        self.logger.info("Job %s was asked to stop.", body.message.claim.id)
        at = time.monotonic() + body.cancel_grace_s
        if at < body.deadline:
            body.deadline, body.kind = at, Cancelled

    def _hasten(self, body: _Body) -> None:
        at = self._shutdown_at if body.notify_shutdown else self._shutdown_at + self.grace_s
        if at < body.deadline:
            body.deadline, body.kind = at, Shutdown

    def _bracket(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(fn)
        def bracketed(*args: Any, **kwargs: Any) -> Any:
            plan = getattr(self._current, "plan", None)
            if plan is None:  # called directly, not as a job
                return fn(*args, **kwargs)
            self._current.plan = None
            body = _Body(*plan)
            try:
                with self._lock:
                    self._hasten(body)
                    self._tell(body)
                    self._bodies.add(body)
                    _running.body = body
                    if body.deadline < self._next:
                        self._lock.notify()
                return fn(*args, **kwargs)
            finally:
                # An interrupt may land on any line until the body is closed: do it again until it is.
                left = False
                while not left:
                    try:
                        self._leave(body)
                        left = True
                    except Interrupt:
                        continue

        return bracketed

    def _leave(self, body: _Body) -> None:
        body.close()
        _running.body = None
        with self._lock:
            self._bodies.discard(body)

    def _watch(self) -> None:
        with self._lock:
            while self._working or self._bodies:
                now = time.monotonic()
                for body in [body for body in self._bodies if body.deadline <= now]:
                    body.deadline = float("inf")
                    try:
                        if body.interrupt():
                            self.logger.warning("Raising %s in worker thread %s.", body.kind.__name__, body.thread)
                    except LookupError as error:
                        self.logger.error(
                            "Job %s runs on past %s: %s.", body.message.claim.id, body.kind.__name__, error
                        )
                self._next = min((body.deadline for body in self._bodies), default=float("inf"))
                self._lock.wait(min(threading.TIMEOUT_MAX, max(0.0, self._next - now)))


def _said(options: Iterable[Mapping[str, Any]], name: str, fits: Callable[[object], bool], default: float) -> float:
    """The first of these, in milliseconds, that was said and is well said: a foreign producer may send anything."""
    found = next((x[name] for x in options if fits(x.get(name))), default)
    return min(found, LONGEST_DELAY_MS)  # what is longer no thread can wait for


def _is_limit(limit: object) -> bool:
    return isinstance(limit, (int, float)) and not isinstance(limit, bool) and limit > 0


def _is_grace(grace: object) -> bool:
    return isinstance(grace, (int, float)) and not isinstance(grace, bool) and grace >= 0


def _check_grace(actor: str, options: Mapping[str, Any], kind: type[MiddlewareError]) -> None:
    if "cancel_grace" in options and not _is_grace(options["cancel_grace"]):
        raise kind(
            f"{actor}: cancel_grace is a number of milliseconds of at least 0, or float('inf') to be asked only, "
            f"got {options['cancel_grace']!r}"
        )


def _key(message: JobMessage) -> tuple[str, int]:
    return message.claim.id, message.claim.epoch

"""Tells functions what happened to jobs, in the process where it did; they are declared by middleware.events.on."""

import difflib
import inspect
import json
import logging
import queue
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from dramatiq import Broker, Middleware, Worker
from dramatiq.broker import MessageProxy
from dramatiq.message import Message

from errors import InvalidListener, LedgerError
from ledger.events import OUTCOMES, Happened, JobEvent
from ledger.ledger import Ledger
from ledger.recorder import Recorder
from ledger.records import Claim, Finish, Finished
from ledger.sealing import masked
from ledger.states import Outcome, Reason, State
from middleware.attempt import JobMessage

logger = logging.getLogger(__name__)

#: Events that may wait for the listeners of a process; what comes then is told to nobody.
MOST = 10_000
#: A listener that goes on failing is put down once in so many seconds; each failure is logged.
QUIET_S = 60.0
#: How often the database's clock is compared with this machine's.
CLOCK_S = 60.0
#: At the end of a worker, how long its listeners have for what has happened.
DRAIN_S = 5.0

#: Puts down, where operators look, that a listener failed: its name, and what is known.
Note = Callable[[str, Mapping[str, Any]], None]

_SPENT = frozenset({Outcome.COMPLETED, Outcome.SKIPPED, Outcome.RETRYING, Outcome.FAILED})


@dataclass(slots=True, eq=False)
class _Listener:
    name: str
    function: Callable[[JobEvent], object]
    actor: str | None
    queue: str | None
    failed: int = 0
    noted_at: float = -QUIET_S


@dataclass(frozen=True, slots=True)
class _Ended:
    """What is known at the moment; the event is made on the listeners' thread."""

    happened: Happened
    claim: Claim
    message: Message[Any] | None
    finish: Finish | None
    at_s: float  #: by this machine's clock


@dataclass(frozen=True, slots=True)
class _Found:
    """Jobs that a duty found dead."""

    happened: Happened
    jobs: Sequence[str]


@dataclass(slots=True)
class _Drained:
    done: threading.Event = field(default_factory=threading.Event)


class Listeners(Middleware):
    """Tells listeners what happened, one event after the other, on a thread that starts with the first of them.

    Has no options.  Fails open: whatever a listener does, the job is recorded before it hears of it.

    Parameters:
      about: what the ledger knows of these jobs, by id; for those that a duty found.
      note: puts down that a listener failed.
    """

    def __init__(
        self,
        ledger: Ledger,
        recorder: Recorder,
        *,
        about: Callable[[Collection[str]], Mapping[str, Mapping[str, Any]]],
        note: Note,
    ) -> None:
        self.ledger = ledger
        self.recorder = recorder
        self.about = about
        self.note = note
        self.dropped = 0
        self._listeners: list[_Listener] = []
        self._by_event: dict[Happened, list[_Listener]] = {}
        self._waiting: queue.SimpleQueue[_Ended | _Found | _Drained] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._ahead_s = 0.0  #: this machine's clock, of the database's
        self._compared_at = -CLOCK_S

    def add(
        self, function: Callable[[JobEvent], object], names: Iterable[Happened], *, actor: str | None, queue: str | None
    ) -> None:
        """Declare a listener.  Raises ``InvalidListener``."""
        name = name_of(function)
        if inspect.iscoroutinefunction(function):
            raise InvalidListener(f"listener {name}: it is async; make it a plain function, it has a thread of its own")
        try:
            inspect.signature(function).bind(None)
        except TypeError as error:
            raise InvalidListener(f"listener {name}: it is called with one event ({error})") from None
        listener = _Listener(name, function, actor, queue)
        self._listeners.append(listener)
        for happened in names:
            self._by_event.setdefault(happened, []).append(listener)

    # -- what happens; none of this may wait or raise
    def before_process_message(self, broker: Broker, message: MessageProxy) -> None:
        if Happened.STARTED in self._by_event and isinstance(message, JobMessage):
            self._put(_Ended(Happened.STARTED, message.claim, message._message, None, time.time()))

    def ended(self, claim: Claim, message: Message[Any] | None, finish: Finish, answer: Finished) -> None:
        """An attempt of this process has ended, and that is committed."""
        if not self._by_event:
            return
        happened = OUTCOMES[finish.outcome]
        if answer.state is State.CANCELLED:  # that was asked for meanwhile
            happened = Happened.CANCELLED
        elif finish.reason is Reason.EXPIRED:
            happened = Happened.EXPIRED
        if happened in self._by_event:
            self._put(_Ended(happened, claim, message, finish, time.time()))

    def found(self, happened: Happened, jobs: Sequence[str]) -> None:
        """A duty of this process has ended these jobs."""
        if happened in self._by_event:
            self._put(_Found(happened, jobs))

    def _put(self, news: _Ended | _Found) -> None:
        if self._waiting.qsize() >= MOST:
            self.dropped += 1
            return
        self._waiting.put(news)
        if self._thread is None:
            with self._lock:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="hareline-listeners", daemon=True)
                    self._thread.start()

    # -- a worker's life
    def check(self, broker: Broker) -> None:
        """Raise ``InvalidListener`` if one listens to an actor or a queue that is not declared."""
        for listener in self._listeners:
            for kind, wanted, known in (
                ("actor", listener.actor, broker.actors),
                ("queue", listener.queue, broker.get_declared_queues()),
            ):
                if wanted is not None and wanted not in known:
                    near = difflib.get_close_matches(wanted, list(known), 1, 0) or ["(there is none)"]
                    raise InvalidListener(
                        f"listener {listener.name}: no {kind} is named {wanted!r}; the nearest is {near[0]!r}"
                    )

    def after_worker_shutdown(self, broker: Broker, worker: Worker) -> None:
        if self._by_event:
            self.recorder.flush()
            self.drain(DRAIN_S)

    def drain(self, timeout_s: float) -> bool:
        """Wait until what has happened so far is told; false when time ran out."""
        if self._thread is None:
            return True
        mark = _Drained()
        self._waiting.put(mark)
        return mark.done.wait(timeout_s)

    # -- the listeners' thread
    def _run(self) -> None:
        while True:
            news = self._waiting.get()
            if isinstance(news, _Drained):
                news.done.set()
                continue
            try:
                for event in self._events(news):
                    self._tell(event)
            except Exception:
                logger.critical("listeners could not be told of %r", news, exc_info=True)
            if self.dropped:
                dropped, self.dropped = self.dropped, 0
                logger.error("the listeners of this process are too slow: %d events were told to nobody", dropped)
                self._note("listeners", {"dropped": dropped})

    def _tell(self, event: JobEvent) -> None:
        for listener in self._by_event.get(event.event, ()):
            if listener.actor not in (None, event.actor) or listener.queue not in (None, event.queue):
                continue
            try:
                listener.function(event)
            except BaseException as error:  # sys.exit() would end the thread, and say nothing
                listener.failed += 1
                logger.exception("listener %s failed at %s of job %s", listener.name, event.event, event.job)
                if time.monotonic() - listener.noted_at >= QUIET_S:
                    listener.noted_at = time.monotonic()
                    what = {
                        "failed": listener.failed,
                        "event": event.event,
                        "job": event.job,
                        "error": repr(error)[:500],
                    }
                    listener.failed = 0
                    self._note(listener.name, what)

    def _events(self, news: _Ended | _Found) -> Iterable[JobEvent]:
        if isinstance(news, _Ended):
            return [self._event(news)]
        return [
            JobEvent(
                news.happened,
                job,
                known["message_id"],
                known["actor"],
                known["queue"],
                known["finished_at"],
                reason=known["reason"],
            )
            for job, known in self.about(news.jobs).items()
        ]

    def _event(self, ended: _Ended) -> JobEvent:
        claim, message, finish = ended.claim, ended.message, ended.finish
        event = JobEvent(
            ended.happened,
            claim.id,
            message.message_id if message is not None else claim.message_id,
            message.actor_name if message is not None else "",
            claim.queue,
            datetime.fromtimestamp(ended.at_s - self._clock(), UTC),
            attempt=claim.attempts + 1 if finish is None or finish.outcome in _SPENT else None,
            by=f"worker {self.recorder.worker}",
        )
        if finish is None:
            return event
        return replace(
            event,
            reason=finish.reason,
            error_type=finish.error_type,
            error_message=finish.error_message and masked(finish.error_message),
            has_result=finish.result is not None and ended.happened is Happened.COMPLETED,
        )

    def _clock(self) -> float:
        if time.monotonic() - self._compared_at >= CLOCK_S:
            session = self.ledger.session("hareline-listeners")
            try:
                self._ahead_s = session.clock_skew_s()
            except LedgerError as error:
                logger.warning("the database's clock could not be asked: %s", error)
            finally:
                session.close()
            self._compared_at = time.monotonic()
        return self._ahead_s

    def _note(self, listener: str, what: Mapping[str, Any]) -> None:
        try:
            self.note(listener, what)
        except Exception:
            logger.warning("it could not be put down that %s failed: %s", listener, json.dumps(what), exc_info=True)


def name_of(function: object) -> str:
    return f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', repr(function))}"

"""What dual writes have handed over is sent, and compared when it has ended: by a thread, once a second."""

import atexit
import json
import os
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol
from uuid import uuid4

import structlog
from dramatiq import Actor
from dramatiq.message import Message
from uuid_utils import uuid7

from errors import InvalidDualWrite, LedgerError, LedgerUnavailable
from ledger.dual import How, Mode, NewPair, Pair, Standing, Tally, Verdict
from ledger.redact import redacted, redacted_text
from ledger.sealing import KeyRing, Seal
from ledger.states import State
from ledger.text import clean
from middleware.handles import Jobs, Sent

if TYPE_CHECKING:
    from ledger.dual_writes import DualWrites
    from middleware.encryption import Encryption

#: How often the thread sends, compares, and asks how the dual writes are set, in seconds.
EVERY_S = 1.0
#: Calls that may wait to be sent; what comes on top is counted as an error.
MOST_WAITING = 10_000
#: Messages in one transaction; pairs in one look, and how many looks in a row.
BATCH, LOOKS = 500, 20
#: Characters of a value, or of an error, that are kept.
LONGEST = 4_000

log = structlog.get_logger(__name__)


class Declared(Protocol):
    """What there is to know of a dual write."""

    @property
    def name(self) -> str: ...
    @property
    def actor(self) -> Actor[..., Any]: ...
    @property
    def declared(self) -> Standing: ...
    @property
    def outcome(self) -> Callable[..., Any] | None: ...
    @property
    def same(self) -> Callable[[Any, Any], bool]: ...
    @property
    def patience_s(self) -> float: ...


class Carrier(Protocol):
    """What is needed of a broker."""

    @property
    def jobs(self) -> Jobs: ...
    @property
    def ring(self) -> KeyRing: ...
    @property
    def encryption(self) -> "Encryption": ...

    def enqueue_many(self, messages: Iterable[Message[Any]]) -> Sequence[Sent[Any]]: ...


@dataclass(frozen=True, slots=True)
class Call:
    """One that is to be sent and compared."""

    writer: Declared
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    told: str  #: JSON: what synchronous code returned, and what an outcome is asked by

    def message(self) -> Message[Any]:
        return self.writer.actor.message_with_options(args=self.args, kwargs=dict(self.kwargs))


class Comparer:
    """The dual writes of a process on one broker.  Thread-safe; fork-safe; its thread begins with the first call.

    Whoever calls waits for no database.  While that is away, calls that were to be sent are counted, not kept: the
    synchronous code has done their work.
    """

    _thread: threading.Thread | None
    _calls: deque[Call]
    _pairs: list[NewPair]  #: sent, and not yet told
    _tallies: dict[str, Tally]
    _standings: dict[str, Standing]
    _away_until: float
    _is_down: bool

    def __init__(self, broker: Carrier, url: str) -> None:
        self._broker = broker
        self._url = url
        self._writers: dict[str, Declared] = {}
        self._store: DualWrites | None = None
        self._renew()
        os.register_at_fork(after_in_child=self._renew)

    def declare(self, writer: Declared) -> None:
        """Idempotent.  Raises ``InvalidDualWrite`` when another has its name."""
        if self._writers.setdefault(writer.name, writer) is not writer:
            raise InvalidDualWrite(f"dual_write {writer.name!r}: there is another of that name; give one of them name=")

    def standing(self, writer: Declared) -> Standing:
        """How it is set, as far as this process has heard."""
        if self._thread is None:
            self._start()
        return self._standings.get(writer.name, writer.declared)

    @property
    def is_away(self) -> bool:
        """Whether the ledger was just found to be away, so that nobody need wait for it again."""
        return time.monotonic() < self._away_until

    def hand_over(self, call: Call) -> None:
        if len(self._calls) >= MOST_WAITING:
            self.failed(call.writer, f"{MOST_WAITING} calls wait to be sent already")
        else:
            self._calls.append(call)

    def sent(self, writer: Declared) -> bool:
        """Count a job that was sent; true."""
        self._count(writer.name, "sent")
        return True

    def failed(self, writer: Declared, error: Exception | str | None) -> bool:
        """Count a call that could not be sent, and why, unless it is as the one before; false."""
        if isinstance(error, LedgerUnavailable):
            self._away_until = time.monotonic() + EVERY_S
        self._count(writer.name, How.ERROR, self._said(writer, error) if isinstance(error, Exception) else error or "")
        return False

    def round(self) -> None:
        """Do now what the thread does once a second: hear how they are set, send, tell, compare."""
        with self._turn:
            store = self._opened()
            try:
                self._standings = store.standings({name: writer.declared for name, writer in self._writers.items()})
            except LedgerError as error:
                self._drop(error)
                return
            if self._is_down:
                self._is_down = False
                log.info("dual_write.ledger_back")
            try:
                self._send()
                self._tell(store)
                self._compare(store)
            except LedgerError as error:
                self._drop(error)

    def close(self) -> None:
        """Send and compare what can be, and stop; a later call begins anew."""
        thread = self._thread
        if thread is None:
            return
        atexit.unregister(self._at_exit)
        self._stop.set()
        thread.join(10.0)
        self.round()
        self._renew()
        self._opened().close()

    # -- the thread
    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="hareline-dual", daemon=True)
                self._thread.start()
                atexit.register(self._at_exit, os.getpid())

    def _run(self) -> None:
        stop = self._stop
        while True:
            try:
                self.round()
            except Exception:
                log.exception("dual_write.failed")
            if stop.wait(EVERY_S):
                return

    def _send(self) -> None:
        calls = [self._calls.popleft() for _ in range(len(self._calls))]
        wanted = [call for call in calls if self.standing(call.writer).mode is Mode.DUAL]
        for start in range(0, len(wanted), BATCH):
            batch = wanted[start : start + BATCH]
            try:
                sent = self._broker.enqueue_many([call.message() for call in batch])
            except LedgerUnavailable as error:
                for call in wanted[start:]:
                    self.failed(call.writer, error)
                raise
            except Exception:  # one of them is refused; the others are not
                self._send_each(batch)
            else:
                self._record(batch, sent)

    def _send_each(self, calls: Sequence[Call]) -> None:
        for call in calls:
            try:
                sent = self._broker.enqueue_many([call.message()])
            except Exception as error:
                self.failed(call.writer, error)
            else:
                self._record([call], sent)

    def _record(self, calls: Sequence[Call], sent: Sequence[Sent[Any]]) -> None:
        for call, job in zip(calls, sent, strict=True):
            told = call.told
            if self._is_secret(call.writer):
                told = Seal(self._broker.ring, job.job_id).close("dual", told)
            self._pairs.append(NewPair(str(uuid7()), call.writer.name, job.job_id, told))
            self.sent(call.writer)

    def _tell(self, store: "DualWrites") -> None:
        with self._lock:
            tallies, self._tallies = self._tallies, {}
        pairs, self._pairs = self._pairs, []
        try:
            store.tell(tallies, pairs, self._owner)
        except LedgerError:
            self._pairs = pairs[-MOST_WAITING:]
            with self._lock:
                for name, tally in self._tallies.items():
                    tallies.setdefault(name, Tally()).add(tally)
                self._tallies = tallies
            raise

    def _compare(self, store: "DualWrites") -> None:
        for _ in range(LOOKS):
            pairs = store.ended(self._writers, self._owner, BATCH)
            verdicts, later = [], []
            for pair in pairs:
                verdict = self._verdict(self._writers[pair.name], pair)
                if verdict is None:
                    later.append(pair)
                else:
                    verdicts.append(verdict)
            store.settle(verdicts, later, EVERY_S)
            if len(pairs) < BATCH:
                return

    def _verdict(self, writer: Declared, pair: Pair) -> Verdict | None:
        """What is to be kept; None: it is to be looked at again."""
        if pair.state is not State.COMPLETED:
            return Verdict(pair, How.MISSING, why=f"job {pair.job} {f'has {pair.state}' if pair.state else 'is gone'}")
        try:
            told = json.loads(Seal(self._broker.ring, pair.job).open("dual", pair.result))
            if writer.outcome is None:
                body = self._broker.jobs.result_of(pair.job).body
                if body is None:
                    return Verdict(pair, How.MISSING, why=f"job {pair.job} completed, and its result is not kept")
                came = json.loads(body)
            else:
                came = writer.outcome(*told["args"], **told["kwargs"])
                if came is None and pair.age_s < writer.patience_s:
                    return None
                if came is None:
                    why = f"job {pair.job} completed, and has no outcome after {writer.patience_s:g} s"
                    return Verdict(pair, How.MISSING, why=why)
            if writer.same(told["result"], came):
                return Verdict(pair, How.EQUAL)
            return Verdict(pair, How.DIFFERENT, self._kept(writer, told["result"]), self._kept(writer, came))
        except LedgerUnavailable:
            raise
        except Exception as error:
            return Verdict(pair, How.ERROR, why=f"job {pair.job}: comparing failed: {self._said(writer, error)}")

    def _kept(self, writer: Declared, value: Any) -> str:
        if self._is_secret(writer):
            return "[encrypted]"
        text = clean(json.dumps(redacted(value), ensure_ascii=False, default=str))
        return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"

    def _said(self, writer: Declared, error: Exception) -> str:
        """What an error says; of secrets only its name, for it may quote them."""
        kind = type(error).__name__
        return kind if self._is_secret(writer) else clean(redacted_text(f"{kind}: {error}"))[:LONGEST]

    def _is_secret(self, writer: Declared) -> bool:
        return self._broker.encryption.mode(writer.actor.actor_name) is not None

    def _drop(self, error: LedgerError) -> None:
        while self._calls:
            self.failed(self._calls.popleft().writer, error)
        if not self._is_down:
            self._is_down = True
            log.warning("dual_write.ledger_away", error=str(error))

    def _count(self, name: str, what: str, why: str = "") -> None:
        with self._lock:
            self._tallies.setdefault(name, Tally()).add(Tally(Counter({str(what): 1}), why))

    def _opened(self) -> "DualWrites":
        if self._store is None:
            from ledger.dual_writes import DualWrites  # with it comes SQLAlchemy: no producer waits for that

            self._store = DualWrites(self._url)
        return self._store

    def _renew(self) -> None:
        """At first, and in a forked child: what the parent was told is the parent's to send."""
        self._lock, self._turn, self._stop = threading.Lock(), threading.Lock(), threading.Event()
        self._thread = None
        self._calls, self._pairs = deque(), []
        self._tallies, self._standings = {}, {}
        self._owner = str(uuid4())
        self._away_until = 0.0
        self._is_down = False

    def _at_exit(self, pid: int) -> None:
        if pid == os.getpid() and self._thread is not None and not self._is_down:
            self.close()

"""Jobs that exist if and only if a transaction of the caller's commits."""

import asyncio
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from contextvars import ContextVar, Token
from types import TracebackType
from typing import TYPE_CHECKING, Any

from broker.connections import driven, driven_async, is_async, session_of, unscoped
from errors import Refusal
from ledger.outbox import AsyncOutbox, Outbox
from ledger.recorder import Recorder
from ledger.records import Due, Enqueued, NewJob, to_send

if TYPE_CHECKING:
    from broker.broker import Broker

#: How long the relay leaves jobs alone, in seconds, whose commit this process will see: to publish and to mark them.
OBSERVED_S = 1.0
#: Where a Session's jobs wait for its commit, in its ``info``.
_INFO = "hareline.recorded"

Recorded = list[tuple[Recorder, "list[NewJob | Due]"]]

_current: "ContextVar[transactional | None]" = ContextVar("transactional", default=None)


def block() -> "transactional | None":
    """The block this code is in."""
    return _current.get()


class transactional:
    """Within it, what is sent is recorded in the transaction of ``connection``, which the caller commits.

    Rolled back, also to a savepoint: no job.  Committed: the job, whatever dies then.  Tasks started in it belong to
    it; threads do not.  Once, and not from two threads at a time; nothing happens to the connection before the first
    send, nor at the end.

    Parameters:
      connection: to the ledger's own database, in a transaction or about to begin one: psycopg's ``Connection``,
        SQLAlchemy's ``Connection`` or ORM ``Session`` over psycopg; on SQLite ``sqlite3.Connection`` and SQLAlchemy's
        over it.  With ``async with`` psycopg's ``AsyncConnection``, SQLAlchemy's ``AsyncConnection`` or
        ``AsyncSession``; then sends are ``await send_async()``.

    A send in it raises ``Refusal`` when the connection cannot be used so, and what the driver raises, as it is.
    """

    def __init__(self, connection: object) -> None:
        self._connection = unscoped(connection)
        self._session = session_of(self._connection)
        self.is_async = is_async(self._connection)
        self._token: Token[transactional | None] | None = None
        self._ended = False
        self._outbox: tuple[Broker, object, Outbox | AsyncOutbox] | None = None
        self._room = ExitStack()
        self._recorded: Recorded = []
        self._lock = threading.Lock()
        self._turn = asyncio.Lock()

    def __enter__(self) -> None:
        if self.is_async:
            raise Refusal(f"a {type(self._connection).__name__} is for asyncio code: write async with transactional(…)")
        self._begin()

    def __exit__(self, *error: object) -> None:
        self._end()

    async def __aenter__(self) -> None:
        if not self.is_async:
            raise Refusal(f"a {type(self._connection).__name__} is not for asyncio code: write with transactional(…)")
        self._begin()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._end()

    def is_over(self, connection: object) -> bool:
        """Whether it is of this connection."""
        return self._connection is unscoped(connection)

    def record(self, broker: "Broker", jobs: Sequence[NewJob]) -> list[Enqueued]:
        """Record jobs; the caller's thread waits for it."""
        self._demand_use(broker)
        if self.is_async:
            raise Refusal(
                "in async with transactional(…), send with await send_async(…), which does not block its loop"
            )
        with self._lock:
            self._take_room(broker, jobs)
            outbox = self._outbox_of(broker, driven(self._connection))
            answers = outbox.record(jobs, publish_after_s=self._publish_after_s)
            assert isinstance(answers, list)
        self._note(broker, jobs, answers)
        return answers

    async def record_async(self, broker: "Broker", jobs: Sequence[NewJob]) -> list[Enqueued]:
        """The same, in an ``async with``."""
        self._demand_use(broker)
        async with self._turn:
            await asyncio.to_thread(self._take_room, broker, jobs)
            outbox = self._outbox_of(broker, await driven_async(self._connection))
            answers = outbox.record(jobs, publish_after_s=self._publish_after_s)
            assert not isinstance(answers, list)
            told = await answers
        self._note(broker, jobs, told)
        return told

    @property
    def _publish_after_s(self) -> float:
        return OBSERVED_S if self._session is not None else 0.0

    def _begin(self) -> None:
        if self._token is not None or self._ended:
            raise Refusal("a transactional() is for one with statement; make another")
        self._token = _current.set(self)

    def _end(self) -> None:
        assert self._token is not None
        _current.reset(self._token)
        self._token, self._ended = None, True
        self._room.close()
        if self._outbox is not None and self._outbox[2].idle:
            _send(self._recorded)

    def _demand_use(self, broker: "Broker") -> None:
        if self._ended:
            raise Refusal(
                "a send of a task that outlived the transactional() block it was started in; start it outside"
            )
        if broker.captures:
            raise Refusal(
                "transactional() in an actor with atomic_sends: its sends cannot commit both with your transaction and "
                "with the job; leave out one of the two"
            )

    def _take_room(self, broker: "Broker", jobs: Sequence[NewJob]) -> None:
        """In the queues with ``max_waiting``; held until the end, for until the commit nobody sees these jobs."""
        if broker.room.watched:
            self._room.enter_context(broker.room.taken(jobs))

    def _outbox_of(self, broker: "Broker", driver: object) -> Outbox | AsyncOutbox:
        """Made again for another connection: a Session may have one for each of its transactions."""
        if self._outbox is None or self._outbox[0] is not broker or self._outbox[1] is not driver:
            self._outbox = broker, driver, broker.ledger.outbox(driver)
        return self._outbox[2]

    def _note(self, broker: "Broker", jobs: Sequence[NewJob], answers: Sequence[Enqueued]) -> None:
        if due := to_send(jobs, answers):
            recorded = self._recorded if self._session is None else _observed(self._session)
            recorded.append((broker.recorder, due))


def _send(recorded: Recorded) -> None:
    """What the transaction may have committed, for a look at what of it is there."""
    for recorder, due in recorded:
        recorder.committed(due)
    recorded.clear()


def _observed(session: Any) -> Recorded:
    """The jobs a Session's transaction has recorded; sent when it has committed."""
    if _INFO not in session.info:
        from sqlalchemy import event

        session.info[_INFO] = []
        event.listen(session, "after_commit", _committed)
        event.listen(session, "after_soft_rollback", _rolled_back)
    recorded: Recorded = session.info[_INFO]
    return recorded


def _committed(session: Any) -> None:
    if not session.in_nested_transaction():
        _send(session.info[_INFO])


def _rolled_back(session: Any, transaction: Any) -> None:
    if transaction.parent is None:
        session.info[_INFO].clear()

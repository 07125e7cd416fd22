"""Messages into RabbitMQ, from any thread, confirmed in batches.

The publisher is the fast path, not the guarantee: what it cannot send it drops and counts, and the ledger's relay
sends it later.  So ``publish`` never blocks, and never fails because of RabbitMQ.
"""

import contextlib
import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from pika import BasicProperties, exceptions, spec
from pika.channel import Channel

from errors import BrokerUnavailable
from rabbitmq import frames
from rabbitmq.connection import Connection, State, user_of
from rabbitmq.declare import Declarer, Topology
from rabbitmq.forks import forget_in_child

log = logging.getLogger(__name__)

JOB_HEADER = "hareline-job"
TICKET_HEADER = "hareline-ticket"
APP_ID = "hareline"

#: Frames are joined up to this size before they go to the socket.
_CHUNK_BYTES = 1 << 17
#: While the socket has not taken this much, nothing more is written: what is not written can still be dropped.
_UNSENT_BYTES = 1 << 22


@dataclass(frozen=True, slots=True)
class Parcel:
    """One message.  ``job`` and ``ticket`` travel as headers and come back with the confirm."""

    queue: str
    body: bytes
    job: str
    ticket: int
    message_id: str
    type: str
    priority: int  #: AMQP's: the higher sooner
    timestamp: int  #: seconds since 1970
    headers: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Stats:
    """Parcels by what became of them, since the process began (or was forked)."""

    sent: int = 0  #: confirmed
    returned: int = 0  #: no such queue, twice
    nacked: int = 0  #: refused by RabbitMQ (a queue's length limit, a failing disk)
    expired: int = 0  #: no confirm within the timeout
    lost: int = 0  #: unconfirmed when the connection ended
    dropped: int = 0  #: never sent: RabbitMQ away or blocked, or too many in hand
    last_error: str = ""


@dataclass(slots=True)
class _Sent:
    parcel: Parcel
    deadline: float
    again: bool  #: this is its second publish, after a return


class Publisher:
    """Publishes persistent, mandatory messages to queues, with pipelined confirms.

    Creating one does no I/O; the first ``publish`` (or :meth:`start`) connects.  A forked child starts afresh.

    Parameters:
      topology: what to declare, see :data:`rabbitmq.declare.Topology`.
      on_sent: called on the I/O thread with the (job, ticket) pairs RabbitMQ has confirmed, in batches; must be quick.
      confirm_timeout_s: a parcel unconfirmed for so long is given up (and may have arrived all the same).
      buffer: how many parcels may be in hand, waiting or unconfirmed; more are dropped.
    """

    def __init__(
        self,
        url: str,
        *,
        topology: Topology,
        on_sent: Callable[[list[tuple[str, int]]], None],
        confirm_timeout_s: float = 10.0,
        buffer: int = 10_000,
        name: str = "hareline publisher",
        heartbeat_s: int = 30,
    ) -> None:
        self._connection = Connection(url, name=name, on_open=self._opened, on_down=self._down, heartbeat_s=heartbeat_s)
        self._user = user_of(url)
        self._declarer = Declarer(self._connection, topology)
        self._on_sent = on_sent
        self._confirm_timeout_s = confirm_timeout_s
        self._buffer = buffer
        #: Told, on the I/O thread, how long after they were handed over messages were confirmed.
        self.on_confirmed: Callable[[list[float]], None] | None = None
        self._reset()
        forget_in_child(self)

    def _reset(self) -> None:
        self.stats = Stats()
        self._idle = threading.Condition()
        self._in_hand = 0  # guarded by _idle
        self._inbox: deque[tuple[float, Parcel]] = deque()
        self._complained = False
        self._ticking = False
        self._reset_channel()

    def _reset_channel(self) -> None:
        self._channel: Channel | None = None
        self._number = 0
        self._next_tag = 1
        self._oldest_tag = 1  # no confirm is missing below it
        self._unconfirmed: dict[int, _Sent] = {}  # by delivery tag, so also by age
        self._undeclared: dict[str, list[_Sent]] = {}
        self._returned: Counter[tuple[str, str, int]] = Counter()
        self._confirmed: list[tuple[str, int]] = []
        self._deadlines: list[float] = []  # of those, while somebody is told

    def forget(self) -> None:
        """In a forked child: what the parent had in hand is the parent's."""
        self._reset()
        self._declarer.reset()

    # -- any thread

    def start(self) -> None:
        """Connect now rather than at the first ``publish``.  Idempotent; raises as :meth:`Connection.start`."""
        self._connection.start()

    def publish(self, parcels: Sequence[Parcel]) -> int:
        """Hand over parcels; returns how many were taken.

        Never blocks, never raises for a RabbitMQ that is away: then, or when it takes no messages, or when too
        many are in hand, parcels are dropped and counted, and one log line per outage says so.
        """
        connection = self._connection
        try:
            connection.start()
        except BrokerUnavailable as error:
            self._drop(len(parcels), str(error))
            return 0
        deadline = time.monotonic() + self._confirm_timeout_s
        with self._idle:
            room = 0 if self._hopeless() else self._buffer - self._in_hand
            taken = parcels if len(parcels) <= room else parcels[: max(room, 0)]
            self._in_hand += len(taken)
            self._inbox.extend((deadline, parcel) for parcel in taken)
        if taken:
            connection.call_soon(self._pump)
        if len(taken) < len(parcels):
            self._drop(len(parcels) - len(taken), self._hopeless() or f"more than {self._buffer} are in hand")
        return len(taken)

    def flush(self, timeout_s: float) -> bool:
        """Wait until nothing is in hand: all was confirmed, refused, or given up.  False if that took too long."""
        with self._idle:
            return self._idle.wait_for(lambda: self._in_hand == 0, timeout_s)

    def close(self, timeout_s: float = 5.0) -> bool:
        """Flush, then end the connection; returns what the flush said.  Idempotent."""
        flushed = self.flush(timeout_s)
        self._connection.close(timeout_s)
        return flushed

    @property
    def ready(self) -> bool:
        """Whether a batch would be sent now: connected, not blocked, at most half full.

        Connects if need be; raises as :meth:`Connection.start`.
        """
        self._connection.start()
        return self._connection.state is State.OPEN and self._in_hand <= self._buffer // 2

    @property
    def connection(self) -> Connection:
        return self._connection

    @property
    def problems(self) -> Mapping[str, Exception]:
        """Queues that could not be declared as the topology says."""
        return self._declarer.problems

    def _hopeless(self) -> str:
        """Why no parcel will leave soon; empty while one may.  A first failure is often only a blip."""
        connection = self._connection
        if connection.state is State.BLOCKED:
            return "RabbitMQ takes no messages: it has a memory or disk alarm"
        if connection.state is State.CLOSED:
            return "the publisher was closed"
        return connection.reason if connection.failures >= 2 else ""

    def _drop(self, count: int, why: str) -> None:
        with self._idle:
            self.stats.dropped += count
            self.stats.last_error = why
            quiet, self._complained = self._complained, True
        if not quiet:
            log.warning("messages are not published for now, the ledger keeps them: %s", why)

    # -- the I/O thread: sending

    def _opened(self) -> None:
        self._connection.channel(self._channel_opened)

    def _channel_opened(self, channel: Channel) -> None:
        wire = self._connection.wire
        if wire is None:
            return
        number = self._number = int(channel.channel_number)
        wire.tap(number, self)
        channel.add_on_return_callback(self._on_return)
        channel.add_on_close_callback(lambda _channel, error: self._channel_closed(number, error))
        # The tap takes the confirms before pika sees them; its own callback is only a formality.
        channel.confirm_delivery(lambda _frame: None, callback=lambda _frame: self._ready(channel))

    def _ready(self, channel: Channel) -> None:
        self._channel = channel
        self._pump()

    def _pump(self) -> None:
        """Send what waits, as much as the socket takes."""
        wire, channel = self._connection.wire, self._channel
        if why := self._hopeless():
            self._empty_inbox(why)
        if wire is None or channel is None:
            return
        inbox = self._inbox
        chunk: list[bytes] = []
        size = 0
        while inbox and wire.unsent_bytes < _UNSENT_BYTES:
            deadline, parcel = inbox.popleft()
            sent = _Sent(parcel, deadline, False)
            held = not self._declarer.declared(parcel.queue)
            if not held:
                data = self._encode(sent)
                chunk.append(data)
                size += len(data)
            if size >= _CHUNK_BYTES or held:
                wire.emit(b"".join(chunk))
                chunk.clear()
                size = 0
            if held:  # only now: of a queue that nobody declares it is written at once, under the next tag
                self._hold(sent)
        wire.emit(b"".join(chunk))
        if not self._ticking:
            self._ticking = True
            self._connection.call_later(self._confirm_timeout_s / 10, self._tick)

    def _encode(self, sent: _Sent) -> bytes:
        """The parcel's frames, noted as unconfirmed; empty when it cannot be sent at all."""
        parcel = sent.parcel
        assert self._connection.wire is not None
        try:
            data = frames.publish(
                self._number,
                parcel.queue,
                parcel.body,
                message_id=parcel.message_id,
                type=parcel.type,
                app_id=APP_ID,
                user_id=self._user,
                priority=parcel.priority,
                timestamp=parcel.timestamp,
                headers={JOB_HEADER: parcel.job, TICKET_HEADER: parcel.ticket, **parcel.headers},
                body_max=self._connection.wire.body_max,
            )
        except Exception as error:
            self.stats.dropped += 1
            self.stats.last_error = f"job {parcel.job} cannot be sent: {error}"
            log.exception(
                "job %s cannot be sent to queue %s: correct its headers or its queue's name", parcel.job, parcel.queue
            )
            self._settle(1)
            return b""
        self._unconfirmed[self._next_tag] = sent
        self._next_tag += 1
        return data

    def _hold(self, sent: _Sent) -> None:
        """Keep a parcel until its queue is declared."""
        name = sent.parcel.queue
        held = self._undeclared.get(name)
        if held is not None:
            held.append(sent)
            return
        self._undeclared[name] = [sent]
        self._declarer.ensure(name, lambda: self._release(name))

    def _release(self, name: str) -> None:
        wire = self._connection.wire
        held = self._undeclared.pop(name, [])
        if wire is not None:
            wire.emit(b"".join(self._encode(sent) for sent in held))

    # -- the I/O thread: what RabbitMQ says

    def delivered(self, consumer: bytes, tag: int, redelivered: bool, properties: bytes, body: bytes) -> None:
        raise AssertionError("a publisher consumes nothing")

    def confirmed(self, tag: int, multiple: bool, accepted: bool) -> None:
        """See :class:`rabbitmq.wire.Tap`."""
        unconfirmed = self._unconfirmed
        first = self._oldest_tag if multiple else tag
        if first <= self._oldest_tag:
            self._oldest_tag = tag + 1
        for known in range(first, tag + 1):
            sent = unconfirmed.pop(known, None)
            if sent is None:
                continue  # given up already
            parcel = sent.parcel
            if not accepted:
                self.stats.nacked += 1
                self.stats.last_error = f"RabbitMQ refused a message for queue {parcel.queue}"
                self._settle(1)
            elif self._returned and self._was_returned(parcel):
                self._return(sent)
            else:
                self._confirmed.append((parcel.job, parcel.ticket))
                if self.on_confirmed is not None:
                    self._deadlines.append(sent.deadline)

    def rested(self) -> None:
        """See :class:`rabbitmq.wire.Tap`."""
        if self._confirmed:
            batch, self._confirmed = self._confirmed, []
            if self.on_confirmed is not None:
                deadlines, self._deadlines = self._deadlines, []
                now = time.monotonic() + self._confirm_timeout_s
                self.on_confirmed([now - deadline for deadline in deadlines])
            self.stats.sent += len(batch)
            if self._in_hand <= self._buffer // 2:  # not at each gap while it overflows
                self._complained = False
            try:
                self._on_sent(batch)
            except Exception:
                log.exception("noting %d confirmed messages failed; the relay will send them again", len(batch))
            self._settle(len(batch))
        if self._inbox:
            self._pump()

    def _on_return(
        self, _channel: Channel, method: spec.Basic.Return, properties: BasicProperties, _body: bytes
    ) -> None:
        # A return comes before the confirm of the same message, and names no delivery tag.
        headers = properties.headers or {}
        self._returned[method.routing_key, headers.get(JOB_HEADER, ""), headers.get(TICKET_HEADER, 0)] += 1

    def _was_returned(self, parcel: Parcel) -> bool:
        key = (parcel.queue, parcel.job, parcel.ticket)
        if key not in self._returned:
            return False
        self._returned[key] -= 1
        if not self._returned[key]:
            del self._returned[key]
        return True

    def _return(self, sent: _Sent) -> None:
        queue = sent.parcel.queue
        if not sent.again:
            self._declarer.forget(queue)
            self._hold(_Sent(sent.parcel, sent.deadline, True))
            return
        self.stats.returned += 1
        error = f"queue {queue!r} does not exist and could not be declared"
        if error != self.stats.last_error:
            log.error("%s: declare it (definitions.json), or let this user configure it", error)
        self.stats.last_error = error
        self._settle(1)

    # -- the I/O thread: giving up

    def _tick(self) -> None:
        """Give up what is overdue; runs only while something is in hand."""
        now = time.monotonic()
        overdue = 0
        for tag, sent in list(islice(self._unconfirmed.items(), self._buffer)):
            if sent.deadline > now:
                break
            del self._unconfirmed[tag]
            overdue += 1
        while self._inbox and self._inbox[0][0] <= now:
            self._inbox.popleft()
            overdue += 1
        for name, held in self._undeclared.items():
            self._undeclared[name] = [sent for sent in held if sent.deadline > now]
            overdue += len(held) - len(self._undeclared[name])
        if overdue:
            self.stats.expired += overdue
            self.stats.last_error = f"RabbitMQ confirmed nothing for {self._confirm_timeout_s:g} s"
            log.warning(
                "%d messages were not confirmed within %g s; the relay sends them again",
                overdue,
                self._confirm_timeout_s,
            )
            self._settle(overdue)
        if self._inbox and self._channel is not None:
            self._pump()
        self._ticking = self._in_hand > 0
        if self._ticking:
            self._connection.call_later(self._confirm_timeout_s / 10, self._tick)

    def _channel_closed(self, number: int, error: Exception) -> None:
        wire = self._connection.wire
        if wire is None or number != self._number or not isinstance(error, exceptions.ChannelClosedByBroker):
            return
        wire.untap(number)
        if str(error) != self.stats.last_error:
            log.error("RabbitMQ closed the publishing channel, opening another: %s", error)
        self.stats.last_error = str(error)
        self._lose(str(error))
        self._connection.call_later(0.1, self._opened)

    def _down(self, reason: str) -> None:
        self._declarer.reset()
        self._lose(reason)
        self._pump()

    def _lose(self, reason: str) -> None:
        """The channel is gone: what it had not confirmed is the relay's business now."""
        confirmed, lost = len(self._confirmed), len(self._unconfirmed) + sum(map(len, self._undeclared.values()))
        self.stats.lost += lost + confirmed
        if lost + confirmed:
            self.stats.last_error = reason
        self._reset_channel()
        self._settle(lost + confirmed)

    def _empty_inbox(self, why: str) -> None:
        count = 0
        with contextlib.suppress(IndexError):
            while True:
                self._inbox.popleft()
                count += 1
        if count:
            self._drop(count, why)
            self._settle(count)

    def _settle(self, count: int) -> None:
        with self._idle:
            self._in_hand -= count
            if not self._in_hand:
                self._idle.notify_all()

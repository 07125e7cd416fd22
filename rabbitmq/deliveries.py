"""Deliveries, and the acknowledgements that go back on the channel they came by."""

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rabbitmq import frames
from rabbitmq.connection import Connection
from rabbitmq.wire import Wire

log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Delivery:
    """A message in our hands until it is acknowledged, rejected, or its channel is gone."""

    queue: str
    body: bytes
    message_id: str | None
    headers: dict[str, Any]
    priority: int | None  #: AMQP's: the higher sooner; None when it was sent with none
    redelivered: bool
    _lane: "Lane"
    _tag: int
    _properties: bytes = b""

    @property
    def user(self) -> str | None:
        """Who published it, if it says so: RabbitMQ lets nobody name another."""
        try:
            return frames.user_id(self._properties) if self._properties else None
        except Exception:
            return None

    def ack(self) -> None:
        """It is dealt with.  From any thread, once; a second answer, or one for a dead channel, does nothing."""
        self._lane.settle(self._tag, True)

    def reject(self) -> None:
        """Hand it back to the queue, for anybody.  As :meth:`ack`."""
        self._lane.settle(self._tag, False)


class Lane:
    """One incarnation of a consuming channel.

    Delivery tags start at 1 on every channel, so a tag means nothing without its lane: an answer to a delivery
    of a dead lane must never reach the next one, where it would acknowledge somebody else's message.
    """

    def __init__(self, connection: Connection, wire: Wire, channel: int, drained: Callable[[], None]) -> None:
        self._connection = connection
        self._wire = wire
        self._channel = channel
        self._drained = drained
        self._answers: deque[tuple[int, bool]] = deque()
        self._called = False
        self.outstanding: dict[int, None] = {}  # delivery tags, in order; I/O thread only
        self.alive = True

    def settle(self, tag: int, done: bool) -> None:
        """Any thread.  All answers given until the I/O thread gets round to it travel together."""
        if not self.alive:
            return
        self._answers.append((tag, done))
        if not self._called:
            self._called = True
            self._connection.call_soon(self.flush)

    def flush(self) -> None:
        """I/O thread.  Acks below every unanswered delivery go as one frame, the others one by one."""
        self._called = False
        answers, outstanding = self._answers, self.outstanding
        if not self.alive:
            answers.clear()
            return
        acked: list[int] = []
        out: list[bytes] = []
        while answers:
            tag, done = answers.popleft()
            if tag not in outstanding:
                log.debug("a delivery on channel %d was answered twice", self._channel)
                continue
            del outstanding[tag]
            if done:
                acked.append(tag)
            else:
                out.append(frames.requeue(self._channel, tag))
        if acked:
            floor = next(iter(outstanding), None)
            if floor is None:
                below, above = acked, []
            else:
                below = [tag for tag in acked if tag < floor]
                above = [tag for tag in acked if tag > floor]
            # After the nacks, and up to a tag that is still open at the server: it refuses any other.
            if below:
                out.append(frames.ack(self._channel, max(below), len(below) > 1))
            out.extend(frames.ack(self._channel, tag, False) for tag in above)
        if out:
            self._wire.emit(b"".join(out))
        if not outstanding:
            self._drained()

    def requeue(self, tag: int) -> None:
        """I/O thread: hand back a delivery nobody has seen."""
        self._wire.emit(frames.requeue(self._channel, tag))

    def die(self) -> None:
        """The channel is gone; RabbitMQ delivers again what was outstanding."""
        self.alive = False
        self._wire.untap(self._channel)
        self.outstanding.clear()
        self._answers.clear()

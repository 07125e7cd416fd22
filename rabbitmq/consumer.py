"""Messages out of RabbitMQ: one connection, one channel for each queue, and no end of patience.

Whatever happens to the connection, a channel, or a queue, consuming goes on by itself as soon as it can.
"""

import itertools
import logging
import random
import threading
from collections.abc import Callable
from enum import Enum, auto
from typing import Any

from pika import exceptions
from pika.channel import Channel

from rabbitmq import frames
from rabbitmq.connection import Connection, reconnect_delay_s
from rabbitmq.declare import Declarer, Topology
from rabbitmq.deliveries import Delivery, Lane
from rabbitmq.forks import forget_in_child

__all__ = ["Consumers", "Delivery"]

log = logging.getLogger(__name__)


#: How often a consumer that nothing comes to makes sure that nothing is there.
LOOK_S = 10.0
#: When a queue is deleted and declared again at once, RabbitMQ may move its consumer to the new queue without a word,
#: and lose acknowledgements on the way: what was delivered stays unanswered there, and nothing more is delivered.
#: With this (named for mirrored queues, honoured for all) it cancels the consumer instead.
_TOLD = {"x-cancel-on-ha-failover": True}


class Wish(Enum):
    """What the owner wants of a queue."""

    OPEN = auto()
    PAUSED = auto()
    CLOSED = auto()


class Consumers:
    """Consumes any number of queues over one connection.

    Creating one does no I/O; the first :meth:`open` connects.  All methods may be called from any thread, return
    at once, and may be called again.  A forked child starts with no queue open.

    Parameters:
      on_delivery: called on the I/O thread with each message; must be quick and must not raise.
      topology: what to declare, see :data:`rabbitmq.declare.Topology`.
    """

    def __init__(
        self,
        url: str,
        *,
        on_delivery: Callable[[Delivery], None],
        topology: Topology,
        name: str = "hareline consumer",
        heartbeat_s: int = 30,
    ) -> None:
        self._connection = Connection(url, name=name, on_open=self._opened, on_down=self._down, heartbeat_s=heartbeat_s)
        self._declarer = Declarer(self._connection, topology)
        self._on_delivery = on_delivery
        self._reset()
        forget_in_child(self)

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._queues: dict[str, _Subscription] = {}

    def forget(self) -> None:
        """In a forked child: the deliveries are the parent's to answer."""
        for subscription in self._queues.values():
            subscription.down()
        self._reset()
        self._declarer.reset()

    def open(self, queue: str, prefetch: int) -> None:
        """Consume ``queue``, with at most ``prefetch`` unanswered deliveries."""
        with self._lock:
            subscription = self._queues.get(queue)
            if subscription is None:
                subscription = _Subscription(queue, self._connection, self._declarer, self._on_delivery)
                self._queues[queue] = subscription
        self._connection.start()
        self._connection.call_soon(lambda: subscription.want(Wish.OPEN, prefetch))

    def set_prefetch(self, queue: str, prefetch: int) -> None:
        """Change how many deliveries may be unanswered, of an open or paused queue."""
        self._want(queue, None, prefetch)

    def pause(self, queue: str) -> None:
        """Take no more deliveries for now; those in hand may still be answered."""
        self._want(queue, Wish.PAUSED)

    def resume(self, queue: str) -> None:
        """Take deliveries again after a pause."""
        self._want(queue, Wish.OPEN)

    def close(self, queue: str) -> None:
        """Take no more deliveries; the channel closes when those in hand are answered."""
        self._want(queue, Wish.CLOSED)

    def stop(self, timeout_s: float = 5.0) -> None:
        """Send the answers given so far and end the connection; RabbitMQ delivers again what was not answered."""
        for queue in list(self._queues):
            self.close(queue)
        self._connection.close(timeout_s)

    @property
    def connection(self) -> Connection:
        return self._connection

    @property
    def problems(self) -> dict[str, Exception]:
        """Queues that could not be declared as the topology says, or cannot be consumed."""
        return {**self._declarer.problems, **{q: s.problem for q, s in list(self._queues.items()) if s.problem}}

    @property
    def consuming(self) -> frozenset[str]:
        """The queues RabbitMQ is delivering from, as far as it has told us."""
        return frozenset(queue for queue, subscription in list(self._queues.items()) if subscription.consuming)

    def _want(self, queue: str, wish: Wish | None, prefetch: int | None = None) -> None:
        subscription = self._queues.get(queue)
        if subscription is not None:
            self._connection.call_soon(lambda: subscription.want(wish, prefetch))

    def _opened(self) -> None:
        for subscription in list(self._queues.values()):
            subscription.up()
        self._look_later()

    def _look_later(self) -> None:
        wire = self._connection.wire

        def look() -> None:
            if self._connection.wire is wire:
                for subscription in list(self._queues.values()):
                    subscription.look()
                self._look_later()

        self._connection.call_later(LOOK_S, look)

    def _down(self, _reason: str) -> None:
        self._declarer.reset()
        for subscription in list(self._queues.values()):
            subscription.down()


class _Subscription:
    """One queue: brings its channel to what the owner wants, again and again.  I/O thread only.

    The steps are declare, open a channel, consume; each begins in :meth:`_advance` when the step before is done,
    and :meth:`_stumble` begins anew after a pause.
    """

    _tags = itertools.count(1)

    def __init__(
        self, queue: str, connection: Connection, declarer: Declarer, on_delivery: Callable[[Delivery], None]
    ) -> None:
        self._queue = queue
        self._connection = connection
        self._declarer = declarer
        self._on_delivery = on_delivery
        self._wish = Wish.CLOSED
        self._prefetch = 1
        self._stumbles = 0
        self.problem: Exception | None = None
        self._clear()

    def _clear(self) -> None:
        self._lane: Lane | None = None
        self._channel: Channel | None = None
        self._tag = b""  # of the consumer; empty when there is none, or it is being cancelled
        self._busy = False  # a step is under way
        self._asked_prefetch = 0
        self._idle = False  # nothing came since the last look
        self._forgotten = False  # though there was something
        self.consuming = False

    # -- what the owner wants

    def want(self, wish: Wish | None, prefetch: int | None = None) -> None:
        self._wish = wish or self._wish
        self._prefetch = prefetch or self._prefetch
        self._advance()

    def up(self) -> None:
        self._advance()

    def down(self) -> None:
        if self._lane is not None:
            self._lane.die()
        self._clear()

    # -- step by step

    def _advance(self) -> None:
        if self._busy or self._connection.wire is None or (self._channel is not None and not self._channel.is_open):
            return
        if self._wish is Wish.OPEN:
            if self._channel is None:
                self._busy = True
                self._declarer.ensure(self._queue, self._step(self._open_channel))
            elif not self._tag:
                self._consume(self._channel)
            elif self._asked_prefetch != self._prefetch:
                self._cancel(self._channel)  # a prefetch counts for consumers that start after it
        elif self._tag and self._channel is not None:
            self._cancel(self._channel)
        elif self._wish is Wish.CLOSED and self._lane is not None and not self._lane.outstanding:
            channel = self._channel
            self.down()
            if channel is not None:
                channel.close()

    def _step(self, function: Callable[..., None]) -> Callable[..., None]:
        """``function``, unless the connection or channel it was meant for is gone by then."""
        lane, wire = self._lane, self._connection.wire

        def step(*args: Any) -> None:
            if self._lane is lane and self._connection.wire is wire:
                function(*args)

        return step

    def _open_channel(self) -> None:
        self._connection.channel(self._step(self._channel_opened))

    def _channel_opened(self, channel: Channel) -> None:
        wire = self._connection.wire
        assert wire is not None
        number = int(channel.channel_number)
        self._channel = channel
        self._lane = Lane(self._connection, wire, number, drained=self._advance)
        wire.tap(number, self)
        channel.add_on_close_callback(self._channel_closed)
        channel.add_on_cancel_callback(self._cancelled)
        self._busy = False
        self._advance()

    def _consume(self, channel: Channel) -> None:
        self._busy = True
        self._asked_prefetch = self._prefetch
        channel.basic_qos(prefetch_count=self._prefetch)
        tag = f"{self._queue[:200]}.{next(self._tags)}"
        self._tag = tag.encode()
        channel.basic_consume(
            self._queue,
            lambda *_: None,
            consumer_tag=tag,
            arguments=_TOLD,
            callback=self._step(lambda _frame: self._consumes()),
        )

    def _consumes(self) -> None:
        self._busy = False
        self._stumbles = 0
        self.problem = None
        self.consuming = True
        self._advance()

    def _cancel(self, channel: Channel) -> None:
        self._busy = True
        tag, self._tag = self._tag.decode(), b""
        self.consuming = False
        channel.basic_cancel(tag, callback=self._step(lambda _frame: self._step_done()))

    def _step_done(self) -> None:
        self._busy = False
        self._advance()

    # -- what RabbitMQ may have forgotten

    def look(self) -> None:
        """Begin anew if twice, without a delivery between, messages were ready and nothing was in hand.

        RabbitMQ delivers at once to whoever has room; it has lost consumers in silence (4.0: of a queue that was
        deleted and declared again).
        """
        idle, self._idle = self._idle, True
        if not idle:
            self._forgotten = False
        elif self.consuming and not self._busy and self._channel is not None and self._channel.is_open:
            self._channel.queue_declare(self._queue, passive=True, callback=self._step(self._looked))

    def _looked(self, frame: Any) -> None:
        ready = frame.method.message_count
        if not (ready and self._idle and self.consuming and self._lane is not None and not self._lane.outstanding):
            self._forgotten = False
        elif not self._forgotten:
            self._forgotten = True
        else:
            log.warning("RabbitMQ delivers none of %s messages ready in queue %s; consuming again", ready, self._queue)
            channel = self._channel
            self.down()
            if channel is not None and channel.is_open:
                channel.close()
            self._stumble(self._step_done)

    # -- what RabbitMQ does unasked

    def _cancelled(self, frame: Any) -> None:
        """basic.cancel from the server: the queue was deleted, or has moved; what is in hand may still be answered."""
        if frame.method.consumer_tag.encode() != self._tag:
            return
        log.warning("RabbitMQ cancelled the consumer of queue %s; consuming again", self._queue)
        self._tag = b""
        self.consuming = False
        self._stumble(lambda: self._declarer.ensure(self._queue, self._step(self._step_done)))

    def _channel_closed(self, channel: Channel, error: Exception) -> None:
        if channel is not self._channel or not isinstance(error, exceptions.ChannelClosedByBroker):
            return  # closed by us, or with the connection: down() follows
        if str(error) != str(self.problem):
            log.error(
                "RabbitMQ closed the channel of queue %s, opening another: %s %s",
                self._queue,
                error.reply_code,
                error.reply_text,
            )
        self.down()
        self.problem = error
        self._stumble(self._step_done)

    def _stumble(self, then: Callable[[], None]) -> None:
        """Begin anew after a pause, which grows while no consumer can be started; the queue may be gone."""
        self._declarer.forget(self._queue)
        self._busy = True
        self._connection.call_later(reconnect_delay_s(self._stumbles, random.random()), self._step(then))
        self._stumbles += 1

    # -- deliveries; see :class:`rabbitmq.wire.Tap`

    def delivered(self, consumer: bytes, tag: int, redelivered: bool, properties: bytes, body: bytes) -> None:
        lane = self._lane
        assert lane is not None
        self._idle = False
        if consumer != self._tag:
            lane.requeue(tag)  # on its way while we cancelled
            return
        try:
            message_id, headers, priority = frames.properties(properties)
        except Exception:
            log.warning("a message in queue %s has properties that cannot be decoded", self._queue, exc_info=True)
            message_id, headers, priority = None, {}, None
        lane.outstanding[tag] = None
        try:
            self._on_delivery(
                Delivery(self._queue, body, message_id, headers, priority, redelivered, lane, tag, properties)
            )
        except Exception:
            # Handing it back would bring it round again at once, for ever; it waits for the end of the channel.
            log.exception("a delivery of queue %s could not be taken; it stays unanswered", self._queue)

    def confirmed(self, tag: int, multiple: bool, accepted: bool) -> None:
        raise AssertionError("a consumer publishes nothing")

    def rested(self) -> None:
        """Nothing to do."""

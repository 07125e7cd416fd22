"""Declares queues, each once per connection, and says what is wrong when it cannot."""

import logging
from collections import deque
from collections.abc import Callable, Iterable

from pika import exceptions
from pika.channel import Channel

from errors import TopologyError
from rabbitmq.connection import Connection
from rabbitmq.topology import Queue

log = logging.getLogger(__name__)

#: What there should be on a server of this (major, minor) version.  Asked on the I/O thread.
Topology = Callable[[tuple[int, int]], Iterable[Queue]]


class Declarer:
    """Makes sure that queues exist, on a channel of its own.  I/O thread only.

    A queue that exists with other arguments, or that we may not declare, is used as it is: who manages the
    topology by definitions.json or by hand is right.  :attr:`problems` keeps what was wrong, by queue.
    """

    def __init__(self, connection: Connection, topology: Topology) -> None:
        self._connection = connection
        self._topology = topology
        self.problems: dict[str, TopologyError] = {}
        self.reset()

    def reset(self) -> None:
        """The connection was lost: nothing is known to be declared, nobody waits any more."""
        self._done: set[str] = set()
        self._waiting: dict[str, list[Callable[[], None]]] = {}
        self._turn: deque[Queue] = deque()
        self._channel: Channel | None = None
        self._opening = False

    def declared(self, name: str) -> bool:
        """Whether there is nothing to wait for before using the queue."""
        return name in self._done

    def forget(self, name: str) -> None:
        """The queue turned out to be missing: declare it again next time."""
        self._done.discard(name)

    def ensure(self, name: str, then: Callable[[], None]) -> None:
        """Declare the queue if that was not done yet, and call ``then`` whatever came of it."""
        if name in self._done:
            then()
        elif name in self._waiting:
            self._waiting[name].append(then)
        else:
            self._waiting[name] = [then]
            assert self._connection.server_version is not None
            wanted = {queue.name: queue for queue in self._topology(self._connection.server_version)}
            if name in wanted:
                self._turn.append(wanted[name])
                if len(self._turn) == 1:  # else its turn comes when the ones before are answered
                    self._next()
            else:
                self._finish(name)

    def _next(self) -> None:
        if not self._turn:
            return
        if self._channel is None:
            if not self._opening:
                self._opening = True
                self._connection.channel(self._opened)
            return
        queue = self._turn[0]
        self._channel.queue_declare(
            queue.name, durable=True, arguments=queue.arguments, callback=lambda _frame: self._declared(queue)
        )

    def _opened(self, channel: Channel) -> None:
        self._opening = False
        self._channel = channel
        channel.add_on_close_callback(self._closed)
        self._next()

    def _declared(self, queue: Queue) -> None:
        self.problems.pop(queue.name, None)
        self._turn.popleft()
        self._next()
        self._finish(queue.name)  # last: it may ask for another

    def _closed(self, channel: Channel, error: Exception) -> None:
        """A refused declaration closes the channel; else it is the connection's end, and :meth:`reset` follows."""
        if channel is not self._channel or not isinstance(error, exceptions.ChannelClosedByBroker):
            return
        self._channel = None
        queue = self._turn.popleft()
        if error.reply_code == 403:  # not ours to declare: definitions.json did, or publishing will tell
            log.debug("may not declare queue %s, taking it as it is: %s", queue.name, error.reply_text)
        else:
            problem = TopologyError(
                f"queue {queue.name!r} cannot be declared with {queue.arguments}: RabbitMQ says {error.reply_text!r}. "
                "It is used as it is. To have it as the topology says, let it run empty and delete it (`rabbitmqctl "
                f"delete_queue {queue.name} --if-empty`): it is declared anew. Or set the queue type to the one it has"
            )
            if str(problem) != str(self.problems.get(queue.name)):
                log.error("%s", problem)
            self.problems[queue.name] = problem
        self._next()
        self._finish(queue.name)

    def _finish(self, name: str) -> None:
        self._done.add(name)
        for then in self._waiting.pop(name):
            then()

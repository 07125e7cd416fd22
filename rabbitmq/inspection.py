"""Is the server as it must be: its queues, and what this user may do.  Changes nothing that could be missed."""

import uuid
from collections.abc import Callable, Iterable
from contextlib import suppress
from enum import StrEnum
from typing import Any

from pika import exceptions

from errors import BrokerError
from rabbitmq.management import connect
from rabbitmq.topology import Queue


class Condition(StrEnum):
    """How a queue compares with the topology."""

    RIGHT = "right"
    MISSING = "missing"
    OTHER = "other"  #: it exists with other arguments
    THERE = "there"  #: it exists; only a user who may configure it can tell with which arguments


def compare(url: str, queues: Iterable[Queue]) -> dict[str, tuple[Condition, str]]:
    """The condition of each queue, and RabbitMQ's words where it is not right.  Creates none.

    Raises ``BrokerUnavailable``, with the remedy, when nobody answers or lets us in.
    """
    with connect(url) as connection:
        return {queue.name: _compare(connection, queue) for queue in queues}


def may_publish(url: str) -> str:
    """Why this user may not publish to queues; empty when it may.  Raises as :func:`compare`."""

    def publish(channel: Any) -> None:
        channel.confirm_delivery()
        # No queue has this name: RabbitMQ checks the permission, then hands the message back.
        with suppress(exceptions.UnroutableError):
            channel.basic_publish("", f"hareline.doctor.{uuid.uuid4()}", b"", mandatory=True)

    with connect(url) as connection:
        return _refusal(connection, publish)[1]


def may_consume(url: str, queue: str) -> str:
    """Why this user may not consume the queue; empty when it may.  Raises as :func:`compare`.

    For an empty queue: a message in it could be delivered, and would come back marked as redelivered.
    """

    def consume(channel: Any) -> None:
        channel.basic_cancel(channel.basic_consume(queue, _ignore))

    with connect(url) as connection:
        return _refusal(connection, consume)[1]


def _compare(connection: Any, queue: Queue) -> tuple[Condition, str]:
    code, words = _refusal(connection, lambda channel: channel.queue_declare(queue.name, passive=True))
    if code:
        return Condition.MISSING if code == 404 else Condition.OTHER, words
    code, words = _refusal(
        connection, lambda channel: channel.queue_declare(queue.name, durable=True, arguments=queue.arguments)
    )
    return {0: Condition.RIGHT, 403: Condition.THERE}.get(code, Condition.OTHER), words


def _refusal(connection: Any, ask: Callable[[Any], object]) -> tuple[int, str]:
    """Code and words with which RabbitMQ refused; 0 and nothing when it did not."""
    channel = connection.channel()
    try:
        ask(channel)
    except exceptions.ChannelClosedByBroker as error:
        if error.reply_code not in (403, 404, 405, 406):
            raise BrokerError(f"RabbitMQ would not say: {error.reply_code} {error.reply_text}") from error
        return int(error.reply_code), str(error.reply_text)
    channel.close()
    return 0, ""


def _ignore(*_: object) -> None:
    """The queue was empty a moment ago; what came all the same goes back when the channel closes."""

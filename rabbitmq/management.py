"""Questions and commands for operators: is RabbitMQ there, how long are the queues, empty this one.

Each call opens a short connection of its own and blocks; nothing here belongs into a hot path.
"""

import base64
import json
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import quote, unquote, urlsplit

from pika import BlockingConnection, exceptions

from errors import BrokerError, BrokerUnavailable
from rabbitmq.connection import addresses, version
from rabbitmq.reasons import explain


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """Who answered."""

    version: str
    server: tuple[int, int]  #: (major, minor)
    cluster: str
    address: str


class PassiveCounts(NamedTuple):
    """A queue as AMQP tells it, exact at that moment."""

    messages: int  #: ready to be delivered; those in workers' hands are not counted
    consumers: int


@dataclass(frozen=True, slots=True)
class Counts:
    """A queue as the management API tells it, up to 5 s old."""

    ready: int
    unacknowledged: int
    consumers: int


def probe(url: str) -> ServerInfo:
    """Log in once.  Raises ``BrokerUnavailable``, with the remedy, when that is not possible."""
    with connect(url) as connection:
        properties = connection._impl.server_properties
        return ServerInfo(
            version=str(properties["version"]),
            server=version(properties),
            cluster=str(properties.get("cluster_name", "")),
            address=f"{connection._impl.params.host}:{connection._impl.params.port}",
        )


def passive_counts(url: str, queues: Iterable[str]) -> dict[str, PassiveCounts]:
    """Length and consumers of each queue; queues that do not exist are left out.

    Raises ``BrokerUnavailable`` as :func:`probe`.
    """
    found = {}
    with connect(url) as connection:
        channel = connection.channel()
        for queue in queues:
            try:
                method = channel.queue_declare(queue, passive=True).method
            except exceptions.ChannelClosedByBroker as error:
                if error.reply_code != 404:
                    raise BrokerError(f"queue {queue!r} cannot be counted: {error.reply_text}") from error
                channel = connection.channel()
            else:
                found[queue] = PassiveCounts(method.message_count, method.consumer_count)
    return found


def purge(url: str, queue: str) -> int:
    """Drop all ready messages of a queue; returns how many.  Idempotent; a queue that does not exist is empty.

    Raises ``BrokerError`` when this user may not, ``BrokerUnavailable`` as :func:`probe`.
    """
    with connect(url) as connection:
        try:
            return int(connection.channel().queue_purge(queue).method.message_count)
        except exceptions.ChannelClosedByBroker as error:
            if error.reply_code == 404:
                return 0
            raise BrokerError(
                f"queue {queue!r} cannot be purged: {error.reply_text}; it takes read permission"
            ) from error


class Management:
    """The management API, for counts.

    Parameters:
      url: ``http://user:password@host:15672``
    """

    def __init__(self, url: str, vhost: str = "/", timeout_s: float = 5.0) -> None:
        parts = urlsplit(url)
        credentials = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
        self._authorization = "Basic " + base64.b64encode(credentials.encode()).decode()
        self._base = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl().rstrip("/")
        self._vhost = quote(vhost, safe="")
        self._timeout_s = timeout_s

    def counts(self, queue: str) -> Counts | None:
        """The queue's counts, or None when it does not exist.  Raises ``BrokerUnavailable``, with the remedy."""
        url = f"{self._base}/api/queues/{self._vhost}/{quote(queue, safe='')}"
        request = urllib.request.Request(url, headers={"Authorization": self._authorization})
        try:
            with urllib.request.urlopen(request, timeout=self._timeout_s) as response:
                answer = json.load(response)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 404:
                return None
            remedy = "check user, password and the user's management tag" if error.code == 401 else "see its log"
            raise BrokerUnavailable(f"RabbitMQ's management API at {self._base} says {error.code}: {remedy}") from error
        except OSError as error:
            raise BrokerUnavailable(
                f"RabbitMQ's management API at {self._base} does not answer ({error}): "
                "enable the plugin rabbitmq_management, or correct the address"
            ) from error
        # A queue younger than the first statistics has no counts yet.
        return Counts(
            ready=answer.get("messages_ready", 0),
            unacknowledged=answer.get("messages_unacknowledged", 0),
            consumers=answer.get("consumers", 0),
        )


@contextmanager
def connect(url: str) -> Iterator[BlockingConnection]:
    """A connection to the first host of the URL that lets us in."""
    reason = ""
    for parameters in addresses(url):
        parameters.heartbeat = 0  # nobody serves it between two calls
        parameters.blocked_connection_timeout = 10
        try:
            connection = BlockingConnection(parameters)
        except (exceptions.AMQPError, OSError) as error:
            reason = explain(
                error,
                f"{parameters.host}:{parameters.port}",
                getattr(parameters.credentials, "username", "?"),
                parameters.virtual_host,
            )
            continue
        try:
            yield connection
        except exceptions.AMQPConnectionError as error:
            raise BrokerUnavailable(f"the connection to RabbitMQ was lost: {error}") from error
        finally:
            if connection.is_open:
                connection.close()
        return
    raise BrokerUnavailable(reason)

"""Questions and commands for operators: is RabbitMQ there, how long are the queues, empty this one.

Each call opens a short connection of its own and blocks; nothing here belongs into a hot path.
"""

import base64
import json
import re
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any, NamedTuple
from urllib.parse import quote, unquote, urlencode, urlsplit

from pika import BlockingConnection, exceptions

from errors import BrokerError, BrokerUnavailable
from rabbitmq.connection import addresses, version
from rabbitmq.reasons import explain

#: A server that froze is given up within three of these, whatever it was asked.  Served while a call waits: nobody may
#: do anything else that long between two.
HEARTBEAT_S = 10


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
    """The management API, for reading.  Thread-safe; every question is one request of at most ``timeout_s`` of silence.

    Parameters:
      url: ``http://user:password@host:15672``; the password is in no message and no link.
    """

    def __init__(self, url: str, vhost: str = "/", timeout_s: float = 5.0) -> None:
        parts = urlsplit(url)
        credentials = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
        self._authorization = "Basic " + base64.b64encode(credentials.encode()).decode()
        self._base = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl().rstrip("/")
        self._vhost = quote(vhost, safe="")
        self._timeout_s = timeout_s

    def ask(self, path: str, **parameters: str) -> Any:
        """What it answers, decoded; None when there is no such thing.  ``{vhost}`` in ``path`` is ours.

        Raises ``BrokerUnavailable``, with the remedy.
        """
        url = f"{self._base}/api{path.format(vhost=self._vhost)}{'?' if parameters else ''}{urlencode(parameters)}"
        request = urllib.request.Request(url, headers={"Authorization": self._authorization})
        try:
            with urllib.request.urlopen(request, timeout=self._timeout_s) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 404:
                return None
            remedy = "check user, password and the user's management tag" if error.code == 401 else "see its log"
            raise BrokerUnavailable(f"RabbitMQ's management API at {self._base} says {error.code}: {remedy}") from error
        except (OSError, HTTPException) as error:
            raise BrokerUnavailable(
                f"RabbitMQ's management API at {self._base} does not answer ({error}): "
                "enable the plugin rabbitmq_management, or correct the address"
            ) from error
        except ValueError as error:
            raise BrokerUnavailable(
                f"what answers at {self._base} is no management API of RabbitMQ ({error})"
            ) from error

    def link(self, queue: str | None = None) -> str:
        """Where a browser shows the server, or one of its queues."""
        return f"{self._base}/#/queues/{self._vhost}/{quote(queue, safe='')}" if queue is not None else f"{self._base}/"


def managements(broker_url: str, management_url: str | None = None) -> list[Management]:
    """Where the management API of this RabbitMQ may be found, to be tried in turn.

    Not told where, it is looked for at the broker's hosts, at the port it has unless configured otherwise.  Without
    credentials of its own it gets those of the broker's address.
    """
    vhost = addresses(broker_url)[0].virtual_host
    parts = urlsplit(broker_url)
    credentials, _, hosts = parts.netloc.rpartition("@")
    if management_url is not None:
        told = urlsplit(management_url)
        if "@" not in told.netloc:
            told = told._replace(netloc=f"{credentials}@{told.netloc}" if credentials else f"guest:guest@{told.netloc}")
        return [Management(told.geturl(), vhost)]
    scheme, port = ("https", 15671) if parts.scheme == "amqps" else ("http", 15672)
    bare = [host if host.endswith("]") else re.sub(r":\d+$", "", host) for host in hosts.split(",")]
    return [Management(f"{scheme}://{credentials or 'guest:guest'}@{host}:{port}", vhost) for host in bare]


@contextmanager
def connect(url: str) -> Iterator[BlockingConnection]:
    """A connection to the first host of the URL that lets us in."""
    reason = ""
    for parameters in addresses(url):
        parameters.heartbeat = HEARTBEAT_S
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

"""RabbitMQ as an outsider sees it: plain pika and rabbitmqctl, nothing of ours."""

import json
import time
import urllib.error
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import pika
from pika.adapters.blocking_connection import BlockingChannel

from tests.acceptance.system import System
from tests.servers import RabbitMQ


@dataclass(frozen=True)
class Letter:
    headers: Mapping[str, Any]
    body: bytes
    properties: pika.BasicProperties


class Rabbit:
    """The vhost of one test."""

    def __init__(self, server: RabbitMQ, url: str) -> None:
        self.server = server
        self.url = url
        self.vhost = url.rpartition("/")[2]

    @contextmanager
    def channel(self) -> Iterator[BlockingChannel]:
        connection = pika.BlockingConnection(pika.URLParameters(self.url))
        try:
            yield connection.channel()
        finally:
            if connection.is_open:
                connection.close()

    def publish(self, queue: str, *bodies: bytes, **properties: Any) -> None:
        """As a foreign client would; returns when RabbitMQ has confirmed."""
        with self.channel() as channel:
            channel.confirm_delivery()
            for body in bodies:
                channel.basic_publish("", queue, body, pika.BasicProperties(**properties), mandatory=True)

    def steal(self, queue: str) -> Letter | None:
        """Take one message out of the queue, for good."""
        with self.channel() as channel:
            method, properties, body = channel.basic_get(queue, auto_ack=True)
            return None if method is None else Letter(properties.headers or {}, body, properties)

    def letters(self, queue: str) -> list[Letter]:
        """All messages of the queue, which stay in it."""
        found: list[Letter] = []
        with self.channel() as channel:
            while True:
                method, properties, body = channel.basic_get(queue)
                if method is None:
                    return found
                found.append(Letter(properties.headers or {}, body, properties))

    def purge(self, queue: str) -> int:
        with self.channel() as channel:
            return int(channel.queue_purge(queue).method.message_count)

    def delete(self, queue: str) -> None:
        with self.channel() as channel:
            channel.queue_delete(queue)

    def counts(self) -> dict[str, tuple[int, int]]:
        """Of every queue: messages ready, and messages in somebody's hands; exact at that moment."""
        columns = ("name", "messages_ready", "messages_unacknowledged")
        rows = json.loads(self.server.ctl("--formatter=json", "list_queues", "-p", self.vhost, *columns))
        return {row["name"]: (row["messages_ready"], row["messages_unacknowledged"]) for row in rows}

    def ready(self) -> dict[str, int]:
        """Of every queue: messages ready; exact, and cheaper than :meth:`counts`."""
        names = [row["name"] for row in self.server.api("GET", f"/queues/{self.vhost}?columns=name")]
        with self.channel() as channel:
            return {name: channel.queue_declare(name, passive=True).method.message_count for name in names}

    def wait_for_consumer(self, queue: str, timeout_s: float = 30.0) -> None:
        """Until somebody consumes the queue."""
        deadline = time.monotonic() + timeout_s
        while all(row["queue"]["name"] != queue for row in self.server.api("GET", f"/consumers/{self.vhost}")):
            assert time.monotonic() < deadline, f"nobody consumes {queue}"
            time.sleep(0.02)

    def close_connections(self) -> int:
        """From the server's side, as an operator would; returns how many."""
        names = [row["name"] for row in self.server.api("GET", f"/vhosts/{self.vhost}/connections")]
        for name in names:
            with suppress(urllib.error.HTTPError):  # it went by itself meanwhile
                self.server.api("DELETE", f"/connections/{quote(name)}")
        return len(names)


def settled(system: System, rabbit: Rabbit | None = None, *, timeout_s: float = 30.0) -> None:
    """Assert, as soon as it is so, that nothing is left of any job but its record, here and in RabbitMQ."""
    live = "SELECT count(*) FROM jobs WHERE state IN ('waiting', 'delayed', 'active')"
    left = {"live jobs": live, "claims": "SELECT count(*) FROM claims", "tickets": "SELECT count(*) FROM tickets"}

    def of_ledger() -> dict[str, object]:
        return {name: count for name, statement in left.items() if (count := system.sql(statement)[0][0])}

    system.until(lambda: not of_ledger(), timeout_s, because="until the ledger holds nothing live")
    if rabbit is None:
        return

    def dead() -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for queue, job in system.sql("SELECT queue, CAST(id AS text) FROM jobs WHERE state = 'failed'"):
            found.setdefault(f"{queue}.XQ", []).append(str(job))
        return found

    def carried() -> dict[str, tuple[int, int]]:
        return {queue: count for queue, count in rabbit.counts().items() if any(count)}

    def agrees() -> bool:
        expected = {queue: len(jobs) for queue, jobs in dead().items()}
        if {queue: count for queue, count in rabbit.ready().items() if count} != expected:
            return False
        return carried() == {queue: (count, 0) for queue, count in expected.items()}

    try:
        system.until(agrees, timeout_s, because="until RabbitMQ holds the dead letters and nothing else")
    except AssertionError as error:
        raise AssertionError(f"RabbitMQ has {carried()}, the ledger's dead letters are {dead()}") from error
    for queue, jobs in dead().items():
        assert sorted(str(letter.headers["hareline-job"]) for letter in rabbit.letters(queue)) == sorted(jobs)

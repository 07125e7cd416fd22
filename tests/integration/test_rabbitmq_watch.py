"""Watching RabbitMQ: what is not known is said to be unknown, and is never 0."""

import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pika
import pytest

from errors import BrokerUnavailable
from rabbitmq import watch as watching
from rabbitmq.management import Management, managements
from rabbitmq.reading import Declared, QueueReading, differences, read, read_passively
from rabbitmq.topology import Queue, topology
from rabbitmq.watch import Watch
from tests.collect import eventually
from tests.faultproxy import FaultProxy
from tests.servers import RabbitMQ

pytestmark = pytest.mark.prove

ROOT = Path(__file__).parents[2]
NAMES = ["email", "email.XQ"]


def declare(url: str, *queues: Queue, messages: int = 0) -> None:
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        for queue in queues:
            channel.queue_declare(queue.name, durable=True, arguments=queue.arguments)
        for _ in range(messages):
            channel.basic_publish("", queues[0].name, b"{}", mandatory=True)


def watch_of(server: RabbitMQ, url: str, management: str | None = None) -> Watch:
    return Watch(url, management or server.management_url, names=lambda: NAMES)


@contextmanager
def answering(status: int, body: bytes) -> Iterator[str]:
    """A server that says the same to everyone; its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_the_management_api_tells_counts_rates_type_and_version(rabbitmq: RabbitMQ, rabbitmq_url: str) -> None:
    server = rabbitmq.version
    declare(rabbitmq_url, *topology(["email"], queue_type="classic", server=(server[0], server[1])), messages=3)
    watch = watch_of(rabbitmq, rabbitmq_url)
    eventually(lambda: (q := watch.look().queue("email")) is not None and q.ready == 3, "the statistics are in")
    seen = watch.seen
    assert seen.known
    assert seen.reading is not None
    assert (seen.reading.source, seen.reading.alarms, seen.reading.blocked) == ("management", (), 0)
    assert seen.reading.version.split(".")[:2] == [str(part) for part in server[:2]]
    email = seen.queue("email")
    assert email is not None
    assert (email.ready, email.unacknowledged, email.consumers, email.messages) == (3, 0, 0, 3)
    assert email.published is not None
    assert email.declared is not None
    assert (email.declared.kind, email.declared.bindings) == ("classic", ())
    assert seen.queue("no such queue") is None


def test_a_queue_younger_than_the_first_statistics_has_no_counts_rather_than_none(
    rabbitmq: RabbitMQ, rabbitmq_url: str
) -> None:
    declare(rabbitmq_url, Queue("email", {}))
    email = watch_of(rabbitmq, rabbitmq_url).look().queue("email")
    assert email is not None
    assert (email.ready, email.unacknowledged, email.published, email.messages) == (None, None, None, None)


def test_without_a_management_api_amqp_tells_what_it_can(rabbitmq: RabbitMQ, rabbitmq_url: str) -> None:
    declare(rabbitmq_url, Queue("email", {}), messages=2)
    watch = watch_of(rabbitmq, rabbitmq_url, "http://127.0.0.1:1")
    seen = watch.look()
    assert seen.known
    assert "http://127.0.0.1:1 does not answer" in seen.why
    assert seen.reading is not None
    assert (seen.reading.source, seen.reading.alarms, seen.reading.blocked) == ("amqp", None, None)
    assert list(seen.reading.queues) == ["email"]
    email = seen.queue("email")
    assert email is not None
    assert (email.ready, email.consumers, email.unacknowledged, email.messages) == (2, 0, None, None)


def test_when_rabbitmq_is_away_everything_is_unknown_as_of_then_and_known_again_when_it_is_back(
    rabbitmq: RabbitMQ, rabbitmq_url: str
) -> None:
    declare(rabbitmq_url, Queue("email", {}), messages=2)
    ports = [int(url.rpartition(":")[2].partition("/")[0]) for url in (rabbitmq_url, rabbitmq.management_url)]
    with FaultProxy(ports[0]) as amqp, FaultProxy(ports[1]) as management:
        watch = Watch(amqp.url(rabbitmq_url), management.url(f"{rabbitmq.management_url}/"), names=lambda: NAMES)
        seen_until_away_and_back(watch, amqp, management)


def seen_until_away_and_back(watch: Watch, *ways: FaultProxy) -> None:
    assert (watch.seen.known, watch.seen.age_s, watch.seen.as_of) == (False, None, None)
    eventually(lambda: (q := watch.look().queue("email")) is not None and q.ready == 2, "the statistics are in")
    for way in ways:
        way.refuse()
    seen = watch.look()
    assert not seen.known
    assert seen.why
    assert seen.queue("email") is None
    assert seen.as_of is not None
    assert seen.reading is not None  # what it last was, for who wants to say so
    for way in ways:
        way.refuse(False)
    assert watch.look().known
    assert watch.seen.reading is not None
    assert watch.seen.reading.source == "management"


def test_alarms_are_told_by_node(rabbitmq: RabbitMQ, rabbitmq_url: str) -> None:
    watch = watch_of(rabbitmq, rabbitmq_url)
    rabbitmq.ctl("set_vm_memory_high_watermark", "absolute", "1")
    try:
        eventually(
            lambda: (r := watch.look().reading) is not None and r.alarms == ("memory alarm on test@localhost",),
            "the alarm is told",
        )
    finally:
        rabbitmq.ctl("set_vm_memory_high_watermark", "absolute", "1GB")


def test_an_old_reading_tells_nothing_and_ages_by_the_monotonic_clock(
    rabbitmq: RabbitMQ, rabbitmq_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = watch_of(rabbitmq, rabbitmq_url)
    assert watch.look().known
    now = time.monotonic()
    monkeypatch.setattr(time, "time", lambda: 0.0)
    monkeypatch.setattr(time, "monotonic", lambda: now + watching.STALE_S + 1)
    seen = watch.seen
    assert not seen.known
    assert seen.age_s is not None
    assert seen.age_s > watching.STALE_S
    assert seen.why == "nobody has looked since"


def test_the_thread_looks_by_itself_and_ends_when_told(rabbitmq: RabbitMQ, rabbitmq_url: str) -> None:
    looks = threading.Semaphore(0)
    watch = Watch(rabbitmq_url, rabbitmq.management_url, names=lambda: NAMES, then=looks.release, interval_s=0.01)
    watch.start()
    assert watch.wait(30)
    assert all(looks.acquire(timeout=30) for _ in range(3))
    assert watch.seen.known
    watch.stop(30)
    assert "hareline-rabbitmq" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (401, b"{}", "check user, password and the user's management tag"),
        (500, b"", "says 500: see its log"),
        (404, b"", "does not know the virtual host"),
        (200, b"<html>", "is no management API"),
        (200, b'"text"', "does not know the virtual host"),
    ],
)
def test_an_answer_that_is_none_is_unavailable_with_a_remedy(status: int, body: bytes, words: str) -> None:
    with answering(status, body) as url, pytest.raises(BrokerUnavailable, match=words) as caught:
        read(Management(url.replace("//", "//me:secret@")))
    assert "secret" not in str(caught.value)


def test_an_answer_of_an_unknown_shape_is_unknown_and_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with answering(200, json.dumps([{"no": "name"}]).encode()) as url:
        watch = Watch("amqp://127.0.0.1:1", url, names=lambda: NAMES)
        assert watch.look().why.startswith("nothing listens")
    assert not watch.seen.known


def test_where_the_management_api_may_be() -> None:
    def links(*urls: str | None) -> list[str]:
        return [management.link("a b/c") for management in managements(*urls)]  # type: ignore[arg-type]

    assert links("amqp://u:p%40@a:5672,b/%2F") == [
        "http://a:15672/#/queues/%2F/a%20b%2Fc",
        "http://b:15672/#/queues/%2F/a%20b%2Fc",
    ]
    assert links("amqps://u:p@a/jobs") == ["https://a:15671/#/queues/jobs/a%20b%2Fc"]
    assert links("amqp://[::1]:5672/%2F") == ["http://[::1]:15672/#/queues/%2F/a%20b%2Fc"]
    told = "https://me:secret@mq.example/rabbit"
    assert links("amqp://u:p@a/%2F", told) == ["https://mq.example/rabbit/#/queues/%2F/a%20b%2Fc"]
    assert managements("amqp://u:p@a/%2F", told)[0].link() == "https://mq.example/rabbit/"


def test_what_differs_from_the_topology_is_said() -> None:
    [wanted, _] = topology(["email"], queue_type="classic", server=(3, 10))
    right = Declared("classic", True, False, {"x-max-priority": 5}, "", {}, ())
    assert differences(wanted, right) == []
    wrong = Declared(
        "quorum", False, True, {"x-max-priority": 9, "x-expires": 1}, "p", {"message-ttl": 5}, ("exchange 'e' by ''",)
    )
    assert differences(wanted, wrong) == [
        "it is a quorum queue, the topology has classic",
        "it is not durable: a restart of RabbitMQ deletes it",
        "it deletes itself with its last consumer",
        "x-expires is 1, the topology has not set",
        "x-max-priority is 9, the topology has 5",
        "policy 'p' sets message-ttl=5: messages may leave it unseen",
        "it is bound to exchange 'e' by '', the topology has no bindings",
    ]


def test_amqp_says_nothing_of_queues_that_do_not_exist(rabbitmq_url: str) -> None:
    declare(rabbitmq_url, Queue("email", {}))
    assert read_passively(rabbitmq_url, ["email", "gone"]).queues == {"email": QueueReading("email", 0, None, 0)}


def test_nothing_of_ours_takes_a_message_to_look_at_it() -> None:
    """Browsing by get-and-requeue marks every message as redelivered, and ends them on quorum queues."""
    ours = [path for path in ROOT.rglob("*.py") if path.relative_to(ROOT).parts[0] not in ("tests", ".venv")]
    assert len(ours) > 100
    found = [
        path
        for path in ours
        if re.search(r"basic_get|\.consume\(.*inactivity|ackmode|/get\b.{0,3}['\"]", path.read_text())
    ]
    assert found == []

"""The publisher, against a real RabbitMQ that is stopped, killed, filled up and cut off."""

import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pika
import pytest

from errors import BrokerUnavailable
from rabbitmq.connection import State
from rabbitmq.management import connect, passive_counts
from rabbitmq.publisher import Parcel, Publisher
from rabbitmq.topology import Queue, choose_type, topology
from tests.collect import Collected, eventually
from tests.faultproxy import FaultProxy
from tests.servers import RabbitMQ
from tests.servers.rabbitmq import settle

Pair = tuple[str, int]


def wanted(*names: str) -> Callable[[tuple[int, int]], list[Queue]]:
    return lambda server: topology(names, queue_type=choose_type("auto", server), server=server)


def parcel(job: str, queue: str = "q", body: bytes = b"{}", ticket: int = 1, **headers: object) -> Parcel:
    return Parcel(queue, body, job, ticket, f"message-{job}", "actor", 3, 1_700_000_000, headers)


class Sent(Collected[Pair]):
    def jobs(self) -> set[str]:
        return {job for job, _ in self.items}


@contextmanager
def publishing(url: str, *queues: str, **options: object) -> Iterator[tuple[Publisher, Sent]]:
    sent = Sent()
    made = {"topology": wanted(*(queues or ("q",))), "on_sent": sent.add} | options
    publisher = Publisher(url, **made)  # type: ignore[arg-type]
    try:
        yield publisher, sent
    finally:
        publisher.close(1.0)


def drain(url: str, queue: str = "q") -> list[tuple[pika.BasicProperties, bytes]]:
    """Everything in the queue, taken out by a plain client."""
    found = []
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    while True:
        method, properties, body = channel.basic_get(queue, auto_ack=True)
        if method is None:
            break
        found.append((properties, body))
    connection.close()
    return found


def jobs_in(url: str, queue: str = "q") -> list[str]:
    return [properties.headers["hareline-job"] for properties, _ in drain(url, queue)]


def test_a_message_carries_everything_it_was_given(rabbitmq_url: str) -> None:
    body = os.urandom(300_000)  # three frames
    with publishing(rabbitmq_url) as (publisher, sent):
        publisher.publish([parcel("j1", body=body, ticket=7, reason="why", attempts=3)])
        assert publisher.flush(10)
    assert sent.items == [("j1", 7)]
    ((properties, received),) = drain(rabbitmq_url)
    assert received == body
    assert properties.headers == {"hareline-job": "j1", "hareline-ticket": 7, "reason": "why", "attempts": 3}
    assert (properties.message_id, properties.type, properties.app_id) == ("message-j1", "actor", "hareline")
    assert (properties.priority, properties.timestamp) == (3, 1_700_000_000)
    assert (properties.delivery_mode, properties.content_type) == (2, "application/json")


def test_eight_threads_share_one_pipeline_and_every_message_is_confirmed_once(rabbitmq_url: str) -> None:
    with publishing(rabbitmq_url) as (publisher, sent):

        def send(thread: int) -> None:
            for number in range(0, 500, 5):
                publisher.publish([parcel(f"{thread}-{number + n}") for n in range(5)])

        threads = [threading.Thread(target=send, args=(thread,)) for thread in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert publisher.flush(30)
        assert publisher.stats.sent == 4000
    wanted = sorted(f"{thread}-{number}" for thread in range(8) for number in range(500))
    assert sorted(job for job, _ in sent.items) == wanted
    assert sorted(jobs_in(rabbitmq_url)) == wanted


def test_queues_that_are_first_used_at_once_are_each_declared_once(
    rabbitmq_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    queues = [f"q{n}" for n in range(6)]
    with publishing(rabbitmq_url, *queues) as (publisher, sent):
        publisher.publish([parcel("first", queue="q0")])  # the channel for declaring is open from here on
        assert publisher.flush(10)
        caplog.clear()
        publisher.publish([parcel(f"j-{queue}", queue=queue) for queue in queues])
        assert publisher.flush(10)
    assert sent.jobs() == {"first", *(f"j-{queue}" for queue in queues)}
    assert caplog.messages == [], "the connection was lost"


def test_what_does_not_fit_into_the_buffer_is_dropped_and_counted(rabbitmq_url: str) -> None:
    with publishing(rabbitmq_url, buffer=10) as (publisher, sent):
        assert publisher.publish([parcel(str(number)) for number in range(25)]) == 10
        assert publisher.flush(10)
        assert (publisher.stats.sent, publisher.stats.dropped) == (10, 15)
        assert publisher.publish([parcel("later")]) == 1
        assert publisher.flush(10)
    assert sent.jobs() == {*map(str, range(10)), "later"}


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_publishing_goes_on_when_the_server_goes_and_comes_back(
    how: str, rabbitmq: RabbitMQ, rabbitmq_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "rabbitmq")
    slowest = 0.0
    stop = threading.Event()
    with publishing(rabbitmq_url) as (publisher, sent):

        def send() -> None:
            nonlocal slowest
            number = 0
            while not stop.wait(0.001):
                began = time.monotonic()
                publisher.publish([parcel(str(number))])
                slowest = max(slowest, time.monotonic() - began)
                number += 1

        publisher.publish([parcel("first")])
        assert publisher.flush(10)
        settle()
        thread = threading.Thread(target=send)
        thread.start()
        sent.wait_for(50)
        getattr(rabbitmq, how)()
        eventually(lambda: publisher.stats.dropped > 50, "messages are dropped while the server is away")
        before = len(sent)
        rabbitmq.start()
        sent.wait_for(before + 50)
        stop.set()
        thread.join()
        assert publisher.flush(10)
    assert slowest < 1.0  # nowhere near any timeout; this machine is slow at times
    assert sent.jobs() <= set(jobs_in(rabbitmq_url)), "a confirmed message was lost"
    complaints = [record for record in caplog.records if "messages are not published for now" in record.message]
    assert len(complaints) == 1


def test_a_memory_alarm_blocks_messages_but_not_the_sender(rabbitmq: RabbitMQ, rabbitmq_url: str) -> None:
    with publishing(rabbitmq_url, confirm_timeout_s=1.0) as (publisher, sent):
        publisher.publish([parcel("before")])
        assert publisher.flush(10)
        rabbitmq.ctl("set_vm_memory_high_watermark", "0.0000001")
        try:
            publisher.publish([parcel("alarming")])  # RabbitMQ tells a connection when it first publishes
            eventually(lambda: publisher.connection.blocked, "RabbitMQ says that it is blocked")
            began = time.monotonic()
            assert [publisher.publish([parcel("blocked")]) for _ in range(100)] == [0] * 100
            assert time.monotonic() - began < 1.0
            assert not publisher.ready
            assert publisher.flush(10), "what was under way when the alarm came is given up in time"
            assert publisher.stats.expired == 1
        finally:
            rabbitmq.ctl("set_vm_memory_high_watermark", "absolute", "1GB")
        eventually(lambda: publisher.ready, "RabbitMQ takes messages again")
        publisher.publish([parcel("after")])
        assert publisher.flush(10)
    assert sent.jobs() == {"before", "after"}
    assert publisher.stats.dropped == 100


def test_a_queue_that_vanished_is_declared_again_and_the_message_sent_again(
    rabbitmq: RabbitMQ, rabbitmq_url: str
) -> None:
    vhost = rabbitmq_url.rpartition("/")[2]
    with publishing(rabbitmq_url) as (publisher, sent):
        publisher.publish([parcel("first")])
        assert publisher.flush(10)
        rabbitmq.api("DELETE", f"/queues/{vhost}/q")
        publisher.publish([parcel(str(number)) for number in range(100)])
        assert publisher.flush(10)
        assert (publisher.stats.sent, publisher.stats.returned) == (101, 0)
    assert sorted(jobs_in(rabbitmq_url)) == sorted(map(str, range(100)))
    assert len(sent) == 101


def test_a_message_for_a_queue_nobody_declares_is_returned_and_never_called_sent(rabbitmq_url: str) -> None:
    with publishing(rabbitmq_url) as (publisher, sent):
        publisher.publish([parcel("lost", queue="unknown"), parcel("kept"), parcel("lost", queue="unknown", ticket=2)])
        assert publisher.flush(10)
        assert publisher.stats.returned == 2
        assert "'unknown' does not exist" in publisher.stats.last_error
    assert sent.items == [("kept", 1)]


def test_a_refused_message_is_not_sent(rabbitmq_url: str) -> None:
    arguments = {"x-max-length": 1, "x-overflow": "reject-publish"}
    with publishing(rabbitmq_url, topology=lambda _: [Queue("q", arguments)]) as (publisher, sent):
        publisher.publish([parcel("fits")])
        assert publisher.flush(10)
        publisher.publish([parcel("refused"), parcel("refused too")])
        assert publisher.flush(10)
        assert publisher.stats.nacked == 2
    assert sent.jobs() == {"fits"}


def test_a_queue_with_other_arguments_is_named_with_the_remedy_and_used(
    rabbitmq_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    connection = pika.BlockingConnection(pika.URLParameters(rabbitmq_url))
    connection.channel().queue_declare("q", durable=True, arguments={"x-max-priority": 9})
    connection.close()
    with publishing(rabbitmq_url, topology=lambda server: topology(["q"], queue_type="classic", server=server)) as (
        publisher,
        sent,
    ):
        publisher.publish([parcel("j")])
        assert publisher.flush(10)
        problem = str(publisher.problems["q"])
    assert sent.jobs() == {"j"}
    for part in ("queue 'q'", "'x-max-priority': 5", "received '5' but current is '9'", "delete_queue q"):
        assert part in problem
    assert [record.message for record in caplog.records if record.name == "rabbitmq.declare"] == [problem]


def test_a_header_amqp_cannot_carry_stops_only_its_own_message(rabbitmq_url: str) -> None:
    with publishing(rabbitmq_url) as (publisher, sent):
        publisher.publish([parcel("a"), parcel("bad", header=object()), parcel("b")])
        assert publisher.flush(10)
        publisher.publish([parcel("c")])
        assert publisher.flush(10)
        assert publisher.stats.dropped == 1
    assert sent.jobs() == {"a", "b", "c"}


def test_a_confirm_that_does_not_come_is_given_up_in_time(rabbitmq: RabbitMQ, rabbitmq_url: str) -> None:
    with (
        FaultProxy(rabbitmq.port) as proxy,
        publishing(proxy.url(rabbitmq_url), confirm_timeout_s=0.5) as (publisher, sent),
    ):
        publisher.publish([parcel("a")])
        assert publisher.flush(10)
        proxy.stall()
        publisher.publish([parcel("b")])
        began = time.monotonic()
        assert publisher.flush(10)
        assert time.monotonic() - began < 3
        assert publisher.stats.expired == 1
        proxy.resume()
        publisher.publish([parcel("c")])
        assert publisher.flush(10)
        assert sent.jobs() == {"a", "c"}, "a late confirm is not mistaken for another message's"


def test_a_half_open_link_is_noticed_within_two_heartbeats(rabbitmq: RabbitMQ, rabbitmq_url: str) -> None:
    with FaultProxy(rabbitmq.port) as proxy, publishing(proxy.url(rabbitmq_url), heartbeat_s=1) as (publisher, _):
        publisher.publish([parcel("a")])
        assert publisher.flush(10)
        proxy.stall()
        began = time.monotonic()
        eventually(lambda: publisher.connection.state is not State.OPEN, "the link is found dead")
        assert time.monotonic() - began < 2.5
        proxy.resume()
        eventually(lambda: publisher.ready, "it is connected again")
        publisher.publish([parcel("b")])
        assert publisher.flush(10)
    assert jobs_in(rabbitmq_url) == ["a", "b"]


def test_silence_and_a_busy_interpreter_are_not_mistaken_for_a_dead_link(rabbitmq: RabbitMQ, rabbitmq_url: str) -> None:
    with FaultProxy(rabbitmq.port) as proxy, publishing(proxy.url(rabbitmq_url), heartbeat_s=1) as (publisher, _):
        publisher.publish([parcel("a")])
        assert publisher.flush(10)
        threading.Event().wait(4)  # silence: RabbitMQ would have closed the connection after two
        busy_until = time.monotonic() + 4
        threads = [threading.Thread(target=_spin, args=(busy_until,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        publisher.publish([parcel("b")])
        assert publisher.flush(10)
        assert proxy.accepted == 1


def _spin(until: float) -> None:
    while time.monotonic() < until:
        sum(range(1000))


def test_a_forked_child_and_its_parent_both_publish(rabbitmq_url: str) -> None:
    with publishing(rabbitmq_url) as (publisher, sent):
        publisher.publish([parcel("parent before")])
        assert publisher.flush(10)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                publisher.publish([parcel(f"child {number}") for number in range(10)])
                code = 0 if publisher.flush(10) and publisher.stats.sent == 10 else 2
                publisher.close(1)
            finally:
                os._exit(code)
        publisher.publish([parcel("parent during")])
        assert publisher.flush(10)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        publisher.publish([parcel("parent after")])
        assert publisher.flush(10)
        assert publisher.stats.lost == 0, "the parent's connection was not disturbed"
    parents = {f"parent {when}" for when in ("before", "during", "after")}
    assert sent.jobs() == parents
    assert set(jobs_in(rabbitmq_url)) == parents | {f"child {number}" for number in range(10)}


def test_messages_handed_over_before_the_first_connection_are_sent(rabbitmq: RabbitMQ, rabbitmq_url: str) -> None:
    with publishing(rabbitmq_url) as (publisher, _):
        assert publisher.connection.state is State.IDLE
        publisher.publish([parcel("j")])
    assert jobs_in(rabbitmq_url) == ["j"], "close() flushes"


def test_a_second_host_is_tried_when_the_first_does_not_answer(rabbitmq: RabbitMQ, rabbitmq_url: str) -> None:
    two = rabbitmq_url.replace("@", "@127.0.0.1:1,")
    with publishing(two) as (publisher, sent):
        publisher.publish([parcel("j")])
        assert publisher.flush(10)
        assert sent.jobs() == {"j"}


@pytest.mark.parametrize(
    ("change", "remedy"),
    [
        (("hareline:hareline@", "hareline:wrong@"), "refuses user 'hareline': check the user and the password"),
        (("/test-", "/no-such-"), "into virtual host 'no-such-.*`rabbitmqctl add_vhost no-such-"),
        ((r":\d+/", ":1/"), "nothing listens at 127.0.0.1:1"),
        ((r"127\.0\.0\.1", "nowhere.invalid"), "the host name in nowhere.invalid:.* is unknown"),
    ],
)
def test_why_it_cannot_connect_is_logged_once_with_the_remedy(
    change: tuple[str, str], remedy: str, rabbitmq_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with publishing(re.sub(*change, rabbitmq_url)) as (publisher, _):
        publisher.start()
        eventually(lambda: publisher.connection.failures >= 2, "two attempts failed")
        assert publisher.publish([parcel("j")]) == 0
        reason = publisher.connection.reason
    assert re.search(remedy, reason), reason
    assert [r.message for r in caplog.records if r.name == "rabbitmq.connection"] == [f"{reason}; trying again"]


def test_counts_say_what_was_published(rabbitmq_url: str) -> None:
    with publishing(rabbitmq_url, "q", "r") as (publisher, _):
        publisher.publish([parcel("1"), parcel("2"), parcel("3", queue="r")])
        assert publisher.flush(10)
    assert passive_counts(rabbitmq_url, ["q", "missing", "r", "q.XQ"]) == {"q": (2, 0), "r": (1, 0)}


def test_a_queue_that_nobody_declares_does_not_mix_up_what_is_confirmed(rabbitmq_url: str) -> None:
    connection = pika.BlockingConnection(pika.URLParameters(rabbitmq_url))
    channel = connection.channel()
    channel.queue_declare("full", durable=True, arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    channel.basic_publish("", "full", b"")
    connection.close()
    with publishing(rabbitmq_url) as (publisher, sent):
        publisher.publish([parcel("first")])  # so q is declared, and what follows is one chunk
        assert publisher.flush(10)
        publisher.publish([parcel("taken"), parcel("refused", "full"), parcel("taken too")])
        assert publisher.flush(10)
        assert sent.jobs() == {"first", "taken", "taken too"}
        assert publisher.stats.nacked == 1


@pytest.mark.prove
def test_who_asks_a_server_that_froze_gives_up(
    rabbitmq: RabbitMQ, rabbitmq_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rabbitmq.management.HEARTBEAT_S", 1)
    with FaultProxy(rabbitmq.port) as proxy:

        def ask() -> None:
            with connect(proxy.url(rabbitmq_url)) as connection:
                proxy.stall()
                connection.channel()

        with pytest.raises(BrokerUnavailable, match="the connection to RabbitMQ was lost"):
            ask()

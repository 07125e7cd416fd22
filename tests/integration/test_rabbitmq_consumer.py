"""The consumer, against a real RabbitMQ: its deliveries, its answers, and everything that may cut them off."""

import os
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel

from rabbitmq.consumer import Consumers, Delivery, _Subscription
from rabbitmq.management import passive_counts
from rabbitmq.topology import Queue, choose_type, topology
from tests.collect import Collected, eventually
from tests.faultproxy import FaultProxy
from tests.servers import RabbitMQ
from tests.servers.rabbitmq import settle

Got = Collected[Delivery]


def wanted(server: tuple[int, int]) -> list[Queue]:
    return topology(["q", "r"], queue_type=choose_type("auto", server), server=server)


@contextmanager
def consuming(url: str, prefetch: int = 10, **options: object) -> Iterator[tuple[Consumers, Got]]:
    got = Got()
    consumers = Consumers(url, **({"on_delivery": got, "topology": wanted} | options))  # type: ignore[arg-type]
    if prefetch:
        consumers.open("q", prefetch)
    try:
        yield consumers, got
    finally:
        consumers.stop(2.0)


@pytest.fixture
def channel(rabbitmq: RabbitMQ, rabbitmq_url: str) -> Iterator[BlockingChannel]:
    """A plain client's channel, in a vhost whose queues are declared."""
    connection = pika.BlockingConnection(pika.URLParameters(rabbitmq_url))
    channel = connection.channel()
    for queue in wanted((rabbitmq.version[0], rabbitmq.version[1])):
        channel.queue_declare(queue.name, durable=True, arguments=queue.arguments)
    channel.confirm_delivery()
    yield channel
    with suppress(pika.exceptions.AMQPError):  # the test may have ended it
        connection.close()


def publish(channel: BlockingChannel, *bodies: str, queue: str = "q") -> None:
    for body in bodies:
        channel.basic_publish("", queue, body.encode(), pika.BasicProperties(delivery_mode=2), mandatory=True)


def bodies(deliveries: list[Delivery]) -> list[str]:
    return [delivery.body.decode() for delivery in deliveries]


def left(url: str, queue: str = "q") -> int:
    """How many messages are ready, once no consumer holds any back."""
    eventually(lambda: passive_counts(url, [queue])[queue].consumers == 0, "the consumers are gone")
    return passive_counts(url, [queue])[queue].messages


def test_a_delivery_carries_what_was_published(rabbitmq_url: str, channel: BlockingChannel) -> None:
    body = os.urandom(300_000)
    properties = pika.BasicProperties(message_id="m", priority=4, headers={"job": "j", "n": 2**40, "list": [1, "a"]})
    with consuming(rabbitmq_url) as (_, got):
        channel.basic_publish("", "q", body, properties)
        channel.basic_publish("", "q", b"")
        first, second = got.wait_for(2)
        assert (first.queue, first.body, first.message_id, first.priority) == ("q", body, "m", 4)
        assert (first.headers, first.redelivered) == ({"job": "j", "n": 2**40, "list": [1, "a"]}, False)
        assert (second.body, second.message_id, second.priority, second.headers) == (b"", None, None, {})


def test_answers_from_many_threads_in_any_order_reach_the_right_messages(
    rabbitmq_url: str, channel: BlockingChannel
) -> None:
    names = [str(number) for number in range(2000)]
    publish(channel, *names)
    rejected_once: set[str] = set()
    acked = Collected[str]()
    pile: list[Delivery] = []
    lock = threading.Lock()
    stop = threading.Event()

    def answer() -> None:
        while not stop.wait(0.0005):
            with lock:
                taken = [pile.pop(random.randrange(len(pile))) for _ in range(min(len(pile), 7))]
            for delivery in taken:
                body = delivery.body.decode()
                if int(body) % 10 == 3 and body not in rejected_once:
                    rejected_once.add(body)
                    delivery.reject()
                else:
                    delivery.ack()
                    acked(body)

    with consuming(rabbitmq_url, prefetch=100, on_delivery=pile.append):
        threads = [threading.Thread(target=answer) for _ in range(8)]
        for thread in threads:
            thread.start()
        acked.wait_for(2000)
        stop.set()
        for thread in threads:
            thread.join()
    assert left(rabbitmq_url) == 0
    assert sorted(acked.items) == sorted(names), "each was acknowledged once: nothing was delivered twice"
    assert len(rejected_once) == 200


def test_a_second_answer_does_nothing(rabbitmq_url: str, channel: BlockingChannel) -> None:
    publish(channel, "a", "b")
    with consuming(rabbitmq_url) as (consumers, got):
        first, second = got.wait_for(2)
        first.ack()
        first.ack()
        first.reject()
        publish(channel, "c")
        got.wait_for(3)[2].ack()
        second.ack()
        assert consumers.problems == {}
    assert left(rabbitmq_url) == 0
    assert len(got) == 3


def test_what_is_not_answered_is_delivered_again(rabbitmq_url: str, channel: BlockingChannel) -> None:
    publish(channel, "a", "b")
    with consuming(rabbitmq_url) as (_, got):
        got.wait_for(2)[0].ack()
    assert left(rabbitmq_url) == 1
    with consuming(rabbitmq_url) as (_, got):
        (again,) = got.wait_for(1)
        assert (again.body, again.redelivered) == (b"b", True)


def test_an_ack_after_a_reconnect_acks_nothing_else(
    rabbitmq: RabbitMQ, rabbitmq_url: str, channel: BlockingChannel
) -> None:
    publish(channel, "a", "b")
    with FaultProxy(rabbitmq.port) as proxy, consuming(proxy.url(rabbitmq_url), prefetch=1) as (_, got):
        (a,) = got.wait_for(1)
        assert a.body == b"a"
        proxy.refuse()
        proxy.reset()
        eventually(lambda: channel.queue_declare("q", passive=True).method.message_count == 2, "RabbitMQ took it back")
        method, _, body = channel.basic_get("q")  # somebody else does a
        assert body == b"a"
        channel.basic_ack(method.delivery_tag)
        proxy.refuse(False)
        b = got.wait_for(2)[1]
        assert b.body == b"b"
        assert b._tag == a._tag, "the new channel counts from 1 again: this is what makes the bug possible"
        a.ack()
        a.reject()
        publish(channel, "c")
        proxy.reset()  # b was never answered
        again = got.wait_for(3)[2]
        assert (again.body, again.redelivered) == (b"b", True)
        again.ack()
        got.wait_for(4)[3].ack()
    assert left(rabbitmq_url) == 0


def test_connections_closed_by_an_operator_are_opened_again(
    rabbitmq: RabbitMQ, rabbitmq_url: str, channel: BlockingChannel
) -> None:
    publish(channel, "a")
    vhost = rabbitmq_url.rpartition("/")[2]
    with consuming(rabbitmq_url) as (_, got):
        (before,) = got.wait_for(1)
        rabbitmq.ctl("close_all_connections", "--vhost", vhost, "maintenance")
        after = got.wait_for(2)[1]
        assert (after.body, after.redelivered) == (b"a", True)
        before.ack()
        after.ack()
    assert left(rabbitmq_url) == 0


def test_consuming_goes_on_when_its_queue_is_deleted(
    rabbitmq: RabbitMQ, rabbitmq_url: str, channel: BlockingChannel
) -> None:
    with consuming(rabbitmq_url) as (consumers, got):
        publish(channel, "a")
        (a,) = got.wait_for(1)
        channel.queue_delete("q")
        eventually(lambda: "q" not in consumers.consuming, "RabbitMQ cancels the consumer")
        eventually(lambda: "q" in consumers.consuming, "the queue is declared and consumed again")
        a.ack()  # of a message that is gone with its queue, on a channel that lives
        publish(channel, "b")
        got.wait_for(2)[1].ack()
        assert consumers.problems == {}
    assert bodies(got.items) == ["a", "b"]
    assert left(rabbitmq_url) == 0


def test_a_consumer_that_rabbitmq_has_lost_in_silence_is_started_again(
    rabbitmq: RabbitMQ,
    rabbitmq_url: str,
    channel: BlockingChannel,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("rabbitmq.consumer.LOOK_S", 0.05)
    monkeypatch.setattr("rabbitmq.consumer._Subscription._cancelled", lambda self, frame: None)  # it says nothing
    with consuming(rabbitmq_url) as (_, got):
        publish(channel, "a")
        got.wait_for(1)[0].ack()
        channel.queue_delete("q")
        for queue in wanted((rabbitmq.version[0], rabbitmq.version[1])):
            channel.queue_declare(queue.name, durable=True, arguments=queue.arguments)
        publish(channel, "b", "c")
        for delivery in got.wait_for(3)[1:]:
            delivery.ack()
    assert bodies(got.items) == ["a", "b", "c"]
    assert left(rabbitmq_url) == 0
    assert "RabbitMQ delivers none of 2 messages ready in queue q; consuming again" in caplog.text


def test_a_consumer_with_something_in_hand_or_nothing_to_do_is_left_alone(
    rabbitmq_url: str, channel: BlockingChannel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("rabbitmq.consumer.LOOK_S", 0.02)
    looked = threading.Semaphore(0)
    look = _Subscription.look

    def counted(self: _Subscription) -> None:
        look(self)
        looked.release()

    monkeypatch.setattr("rabbitmq.consumer._Subscription.look", counted)
    with consuming(rabbitmq_url, prefetch=1) as (_, got):
        publish(channel, "a", "b")
        (first,) = got.wait_for(1)
        for _ in range(10):
            assert looked.acquire(timeout=10)
        first.ack()
        got.wait_for(2)[1].ack()
        for _ in range(10):
            assert looked.acquire(timeout=10)
    assert bodies(got.items) == ["a", "b"]
    assert "consuming again" not in caplog.text


def test_a_queue_that_cannot_be_consumed_is_named_and_consumed_once_it_can(
    rabbitmq_url: str, channel: BlockingChannel
) -> None:
    with consuming(rabbitmq_url, prefetch=0) as (consumers, got):
        consumers.open("undeclared", 5)
        eventually(lambda: "undeclared" in consumers.problems, "the problem is known")
        assert "no queue 'undeclared'" in str(consumers.problems["undeclared"])
        channel.queue_declare("undeclared")
        channel.basic_publish("", "undeclared", b"a")
        got.wait_for(1)[0].ack()
        assert consumers.problems == {}


def test_a_consumer_timeout_costs_one_redelivery_and_no_message(
    rabbitmq: RabbitMQ, rabbitmq_url: str, channel: BlockingChannel
) -> None:
    def set_timeout(consumer_ms: int, tick_ms: int) -> None:
        rabbitmq.ctl(
            "eval",
            f"application:set_env(rabbit, consumer_timeout, {consumer_ms}),"
            f"application:set_env(rabbit, channel_tick_interval, {tick_ms}).",
        )

    set_timeout(500, 200)
    try:
        with consuming(rabbitmq_url) as (_, got):
            publish(channel, "slow")
            (slow,) = got.wait_for(1)
            again = got.wait_for(2)[1]
            assert (again.body, again.redelivered) == (b"slow", True)
            slow.ack()  # too late: RabbitMQ has closed that channel
            again.ack()
            publish(channel, "next")
            got.wait_for(3)[2].ack()
    finally:
        set_timeout(1_800_000, 60_000)
    assert left(rabbitmq_url) == 0


def test_a_paused_queue_delivers_nothing_and_its_deliveries_can_be_answered(
    rabbitmq_url: str, channel: BlockingChannel
) -> None:
    with consuming(rabbitmq_url) as (consumers, got):
        consumers.open("r", 10)
        publish(channel, "a", "b")
        a, b = got.wait_for(2)
        consumers.pause("q")
        eventually(lambda: "q" not in consumers.consuming, "the consumer is cancelled")
        publish(channel, "c")
        publish(channel, "marker", queue="r")
        assert bodies(got.wait_for(3)) == ["a", "b", "marker"]
        a.ack()
        b.reject()
        eventually(lambda: channel.queue_declare("q", passive=True).method.message_count == 2, "b is back beside c")
        consumers.resume("q")
        assert bodies(got.wait_for(5)[3:]) == ["b", "c"]
        for delivery in got.items[2:]:
            delivery.ack()
    assert left(rabbitmq_url) == 0


def test_pausing_and_resuming_under_load_loses_and_doubles_nothing(rabbitmq_url: str, channel: BlockingChannel) -> None:
    names = [str(number) for number in range(1000)]
    acked = Collected[str]()

    def take(delivery: Delivery) -> None:
        delivery.ack()
        acked(delivery.body.decode())

    with consuming(rabbitmq_url, on_delivery=take) as (consumers, _):
        for start in range(0, 1000, 50):
            publish(channel, *names[start : start + 50])
            consumers.pause("q")
            consumers.resume("q")
        acked.wait_for(1000)
        assert consumers.problems == {}
    assert sorted(acked.items) == sorted(names)
    assert left(rabbitmq_url) == 0


def test_a_closed_queue_keeps_its_channel_until_its_deliveries_are_answered(
    rabbitmq_url: str, channel: BlockingChannel
) -> None:
    with consuming(rabbitmq_url) as (consumers, got):
        publish(channel, "a", "b")
        a, b = got.wait_for(2)
        consumers.close("q")
        eventually(lambda: "q" not in consumers.consuming, "the consumer is cancelled")
        a.ack()
        b.reject()
        eventually(lambda: channel.queue_declare("q", passive=True).method.message_count == 1, "b is back")
        consumers.open("q", 10)
        again = got.wait_for(3)[2]
        assert (again.body, again.redelivered) == (b"b", True)
        again.ack()
    assert left(rabbitmq_url) == 0


def test_the_prefetch_bounds_what_is_in_hand_and_can_be_changed(rabbitmq_url: str, channel: BlockingChannel) -> None:
    publish(channel, *map(str, range(10)))
    with consuming(rabbitmq_url, prefetch=2) as (consumers, got):
        got.wait_for(2)
        assert channel.queue_declare("q", passive=True).method.message_count == 8
        consumers.set_prefetch("q", 5)
        for delivery in got.items:
            delivery.ack()
        got.wait_for(7)
        eventually(lambda: channel.queue_declare("q", passive=True).method.message_count == 3, "five are in hand")
        assert len(got) == 7


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_consuming_goes_on_when_the_server_goes_and_comes_back(
    how: str, rabbitmq: RabbitMQ, rabbitmq_url: str, channel: BlockingChannel
) -> None:
    names = [str(number) for number in range(200)]
    publish(channel, *names)
    settle()
    acked = Collected[str]()
    held = Collected[Delivery]()

    def take(delivery: Delivery) -> None:
        if len(held) < 5 and not delivery.redelivered:
            held(delivery)
        else:
            delivery.ack()
            acked(delivery.body.decode())

    with consuming(rabbitmq_url, on_delivery=take):
        acked.wait_for(50)
        getattr(rabbitmq, how)()
        rabbitmq.start()
        acked.wait(lambda done: set(done) == set(names))
        for delivery in held.items:
            delivery.ack()  # of the channel that died
    assert left(rabbitmq_url) == 0


def test_a_forked_child_consumes_for_itself_and_answers_nothing_of_its_parents(
    rabbitmq_url: str, channel: BlockingChannel
) -> None:
    with consuming(rabbitmq_url) as (consumers, got):
        publish(channel, "parent's")
        (parents,) = got.wait_for(1)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                parents.ack()
                seen = len(got)
                assert consumers.consuming == frozenset()
                consumers.open("r", 10)
                got.wait_for(seen + 1)[-1].ack()
                consumers.stop()
                code = 0
            finally:
                os._exit(code)
        publish(channel, "child's", queue="r")
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        publish(channel, "parent's too")
        got.wait_for(2)[1].ack()
        assert bodies(got.items) == ["parent's", "parent's too"], "the parent's consumer was not disturbed"
    assert left(rabbitmq_url) == 1, "the child's ack of its parent's delivery went nowhere"
    assert left(rabbitmq_url, "r") == 0


def test_a_callback_that_raises_does_not_stop_the_others(rabbitmq_url: str, channel: BlockingChannel) -> None:
    good = Got()

    def take(delivery: Delivery) -> None:
        if delivery.body == b"bad":
            raise RuntimeError("not this one")
        good(delivery)

    with consuming(rabbitmq_url, on_delivery=take):
        publish(channel, "a", "bad", "b")
        for delivery in good.wait_for(2):
            delivery.ack()
    assert left(rabbitmq_url) == 1, "the one that could not be taken is still there"

"""Back-off and addresses, without a server."""

import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import rabbitmq.connection
from errors import BrokerUnavailable
from rabbitmq.connection import Connection, State, addresses, reconnect_delay_s
from rabbitmq.publisher import Parcel, Publisher
from rabbitmq.wire import Wire


@given(st.integers(0, 10_000), st.floats(0, 1))
def test_a_reconnect_waits_between_half_and_all_of_a_doubling_delay(failures: int, roll: float) -> None:
    whole = min(10.0, 0.1 * 2 ** min(failures, 20))
    assert whole / 2 <= reconnect_delay_s(failures, roll) <= whole


def test_the_first_reconnect_comes_at_once_and_the_last_within_ten_seconds() -> None:
    assert [reconnect_delay_s(failures, 1.0) for failures in (0, 1, 2, 7, 100)] == [0.1, 0.2, 0.4, 10.0, 10.0]


def test_different_rolls_spread_the_clients() -> None:
    assert len({reconnect_delay_s(5, roll / 10) for roll in range(11)}) == 11


def test_every_host_of_a_url_is_an_address() -> None:
    found = addresses("amqps://me:p%40ss@one:1,two,[::1]:3/jobs%2Fa?channel_max=9")
    assert [(a.host, a.port) for a in found] == [("one", 1), ("two", 5671), ("::1", 3)]
    assert {(a.credentials.username, a.credentials.password) for a in found} == {("me", "p@ss")}
    assert {(a.virtual_host, a.channel_max) for a in found} == {("jobs/a", 9)}


def test_a_url_that_cannot_be_read_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="supported scheme values: amqp"):
        addresses("redis://localhost")


def test_creating_a_connection_does_no_io() -> None:
    connection = Connection("amqp://nowhere.invalid", name="t", on_open=lambda: None, on_down=lambda reason: None)
    states = [connection.state]
    connection.close()
    assert [*states, connection.state] == [State.IDLE, State.CLOSED]


NOWHERE = "amqp://127.0.0.1:1/"


def test_an_attempt_that_cannot_even_be_begun_is_followed_by_another(monkeypatch: pytest.MonkeyPatch) -> None:
    wire, attempts, downs = Wire, iter(range(100)), threading.Semaphore(0)

    def scarce(*args: Any, **kwargs: Any) -> Wire:
        if next(attempts) in (0, 2):
            raise RuntimeError("can't start new thread")
        return wire(*args, **kwargs)

    monkeypatch.setattr(rabbitmq.connection, "Wire", scarce)
    connection = Connection(NOWHERE, name="t", on_open=lambda: None, on_down=lambda reason: downs.release())
    connection.start()
    try:
        for _ in range(4):
            assert downs.acquire(timeout=30)
    finally:
        connection.close()


def test_where_no_thread_can_be_started_nothing_is_raised_to_who_sends_and_the_next_who_asks_tries_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    publisher = Publisher(NOWHERE, topology=lambda server: [], on_sent=lambda pairs: None)
    with monkeypatch.context() as short:
        short.setattr(threading.Thread, "start", refuse)
        with pytest.raises(BrokerUnavailable, match="cannot connect to RabbitMQ from here: can't start new thread"):
            publisher.start()
        assert publisher.publish([Parcel("q", b"{}", "job", 1, "id", "act", 3, 0)]) == 0
        assert (publisher.stats.dropped, publisher.connection.state) == (1, State.IDLE)
    publisher.start()
    try:
        assert publisher.connection.state is not State.IDLE
    finally:
        publisher.close(0.1)

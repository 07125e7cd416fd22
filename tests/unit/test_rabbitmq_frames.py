"""The hand-made codec agrees with pika's."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pika import BasicProperties, frame, spec

from rabbitmq import frames

shorts = st.text(max_size=60)
values = st.one_of(
    st.text(), st.integers(-(2**63), 2**63 - 1), st.booleans(), st.none(), st.lists(st.integers(0, 9)), st.binary()
)
tables = st.dictionaries(shorts, values, max_size=4)


def parse(data: bytes) -> list[Any]:
    """Every frame in ``data``, as pika reads it."""
    found = []
    while data:
        used, parsed = frame.decode_frame(data)
        assert used, "not a whole frame"
        found.append(parsed)
        data = data[used:]
    return found


@given(shorts, st.binary(max_size=300), shorts, shorts, shorts, st.integers(0, 255), st.integers(0, 2**40), tables)
def test_pika_reads_what_is_published(
    queue: str,
    body: bytes,
    message_id: str,
    type: str,
    user: str,
    priority: int,
    timestamp: int,
    headers: dict[str, Any],
) -> None:
    data = frames.publish(
        7,
        queue,
        body,
        message_id=message_id,
        type=type,
        app_id="app",
        user_id=user,
        priority=priority,
        timestamp=timestamp,
        headers=headers,
        body_max=100,
    )
    method, header, *bodies = parse(data)
    assert {part.channel_number for part in (method, header, *bodies)} == {7}
    assert isinstance(method.method, spec.Basic.Publish)
    assert (method.method.exchange, method.method.routing_key) == ("", queue)
    assert (method.method.mandatory, method.method.immediate) == (True, False)
    assert header.body_size == len(body)
    assert b"".join(part.fragment for part in bodies) == body
    assert vars(header.properties) == vars(
        BasicProperties(
            content_type="application/json",
            headers=headers,
            delivery_mode=2,
            priority=priority,
            message_id=message_id,
            timestamp=timestamp,
            type=type,
            user_id=user or None,
            app_id="app",
        )
    )


optional = st.none() | shorts


@given(
    st.builds(
        BasicProperties,
        content_type=optional,
        content_encoding=optional,
        headers=st.none() | tables,
        delivery_mode=st.none() | st.integers(1, 2),
        priority=st.none() | st.integers(0, 255),
        correlation_id=optional,
        reply_to=optional,
        expiration=optional,
        message_id=optional,
        timestamp=st.none() | st.integers(0, 2**40),
        type=optional,
        user_id=optional,
        app_id=optional,
    )
)
def test_properties_are_read_whatever_a_foreign_client_sets(properties: BasicProperties) -> None:
    payload = frame.Header(1, 5, properties).marshal()[7:-1]
    assert frames.properties(payload) == (properties.message_id, properties.headers or {}, properties.priority)
    assert frames.user_id(payload) == properties.user_id


def test_acks_and_requeues_are_what_pika_would_send() -> None:
    for tag, multiple in ((1, False), (2**40, True)):
        assert frames.ack(3, tag, multiple) == frame.Method(3, spec.Basic.Ack(tag, multiple)).marshal()
    assert frames.requeue(3, 9) == frame.Method(3, spec.Basic.Nack(9, multiple=False, requeue=True)).marshal()


def publish(**changes: Any) -> bytes:
    fields: dict[str, Any] = {
        "message_id": "m",
        "type": "t",
        "app_id": "a",
        "user_id": "",
        "priority": 1,
        "timestamp": 0,
        "headers": {},
        "body_max": 9,
    }
    queue = changes.pop("queue", "q")
    return frames.publish(1, queue, b"", **(fields | changes))


def test_a_long_message_id_is_cut_between_characters() -> None:
    header = parse(publish(message_id="é" * 200))[1]
    assert header.properties.message_id == "é" * 127


def test_a_queue_name_amqp_cannot_carry_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="queue name 'long"):
        publish(queue="long" * 100)

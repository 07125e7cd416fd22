"""The AMQP 0-9-1 frames that come by the thousand, as bytes.

pika builds and parses each of them through several objects; these functions do the same in a fraction of the
time.  The tests hold them equal to pika's own codec.
"""

from collections.abc import Mapping
from functools import lru_cache
from struct import Struct
from typing import Any

from pika import data

METHOD, HEADER, BODY = 1, 2, 3
END = b"\xce"
END_BYTE = 0xCE

PUBLISH, DELIVER, ACK, NACK = 0x003C0028, 0x003C003C, 0x003C0050, 0x003C0078

HEAD = Struct(">BHI")  #: a frame's type, channel, and size of its payload
U16, U32, U64, I64 = Struct(">H"), Struct(">I"), Struct(">Q"), Struct(">q")

_SETTLE = Struct(">BHIIQBB")
_CONTENT = Struct(">IHHQH")  # payload size, class, weight, body size, property flags

_CONTENT_TYPE, _CONTENT_ENCODING, _HEADERS, _DELIVERY_MODE, _PRIORITY = (1 << bit for bit in (15, 14, 13, 12, 11))
_CORRELATION_ID, _REPLY_TO, _EXPIRATION, _MESSAGE_ID = (1 << bit for bit in (10, 9, 8, 7))
_TIMESTAMP, _TYPE, _USER_ID, _APP_ID = (1 << bit for bit in (6, 5, 4, 3))

_PUBLISHED = _CONTENT_TYPE | _HEADERS | _DELIVERY_MODE | _PRIORITY | _MESSAGE_ID | _TIMESTAMP | _TYPE | _APP_ID


def ack(channel: int, tag: int, multiple: bool) -> bytes:
    """basic.ack of one delivery, or of every unacknowledged one up to ``tag``."""
    return _SETTLE.pack(METHOD, channel, 13, ACK, tag, multiple, END_BYTE)


def requeue(channel: int, tag: int) -> bytes:
    """basic.nack of one delivery, to be delivered again."""
    return _SETTLE.pack(METHOD, channel, 13, NACK, tag, 0b10, END_BYTE)


def publish(
    channel: int,
    queue: str,
    body: bytes,
    *,
    message_id: str,
    type: str,
    app_id: str,
    user_id: str,
    priority: int,
    timestamp: int,
    headers: Mapping[str, Any],
    body_max: int,
) -> bytes:
    """A persistent, mandatory JSON message to the default exchange, all its frames joined.

    ``user_id`` must be the connection's user, whom RabbitMQ compares it with; empty, nobody is named.
    ``message_id`` and ``type`` are cut to what AMQP can carry, 255 bytes.  Raises ``ValueError`` when the
    queue's name is longer, or a header has a value or a length that AMQP cannot carry.
    """
    table = _table(headers)
    properties = b"".join(
        (
            b"\x10application/json",
            U32.pack(len(table)),
            table,
            b"\x02",  # delivery_mode: persistent
            priority.to_bytes(1, "big"),
            _text(message_id),
            U64.pack(timestamp),
            _constant_text(type),
            _constant_text(user_id) if user_id else b"",
            _constant_text(app_id),
        )
    )
    frames = [
        _publish_method(channel, queue),
        _CONTENT.pack(len(properties) + 14, 0x3C, 0, len(body), _PUBLISHED | (_USER_ID if user_id else 0)),
        properties,
        END,
    ]
    for start in range(0, len(body), body_max):
        part = body[start : start + body_max]
        frames += (HEAD.pack(BODY, channel, len(part)), part, END)
    return b"".join(frames)


@lru_cache(maxsize=1024)
def _publish_method(channel: int, queue: str) -> bytes:
    """The method frame, and the start of the header frame that always follows it."""
    name = queue.encode()
    if len(name) > 255:
        raise ValueError(f"queue name {queue[:40]!r}… has {len(name)} bytes; AMQP allows 255: use a shorter name")
    payload = b"".join((U32.pack(PUBLISH), b"\0\0", b"\0", bytes((len(name),)), name, b"\1"))
    return b"".join((HEAD.pack(METHOD, channel, len(payload)), payload, END, b"\x02", U16.pack(channel)))


def _text(value: str) -> bytes:
    encoded = value.encode()
    if len(encoded) > 255:
        encoded = encoded[:255].decode(errors="ignore").encode()
    return bytes((len(encoded),)) + encoded


_constant_text = lru_cache(maxsize=1024)(_text)


def _table(headers: Mapping[str, Any]) -> bytes:
    pieces: list[bytes] = []
    for key, value in headers.items():
        pieces.append(_constant_text(key))
        if type(value) is str:
            encoded = value.encode()
            pieces += (b"S", U32.pack(len(encoded)), encoded)
        elif type(value) is int:
            pieces += (b"l", I64.pack(value))
        else:
            data.encode_value(pieces, value)
    return b"".join(pieces)


def properties(payload: bytes) -> tuple[str | None, dict[str, Any], int | None]:
    """(message id, headers, priority) of a content header's payload, whoever wrote it.

    Raises when the properties cannot be decoded.
    """
    flags: int = U16.unpack_from(payload, 12)[0]
    offset = 14
    headers: dict[str, Any] = {}
    priority = None
    message_id = None
    if flags & _CONTENT_TYPE:
        offset += 1 + payload[offset]
    if flags & _CONTENT_ENCODING:
        offset += 1 + payload[offset]
    if flags & _HEADERS:
        headers, offset = _read_table(payload, offset)
    if flags & _DELIVERY_MODE:
        offset += 1
    if flags & _PRIORITY:
        priority = payload[offset]
        offset += 1
    for flag in (_CORRELATION_ID, _REPLY_TO, _EXPIRATION):
        if flags & flag:
            offset += 1 + payload[offset]
    if flags & _MESSAGE_ID:
        message_id = payload[offset + 1 : offset + 1 + payload[offset]].decode(errors="replace")
    return message_id, headers, priority


def user_id(payload: bytes) -> str | None:
    """Who published a message, as RabbitMQ has verified it; None when it does not say.

    Raises when the properties cannot be decoded.
    """
    flags: int = U16.unpack_from(payload, 12)[0]
    if not flags & _USER_ID:
        return None
    offset = 14
    for flag in (_CONTENT_TYPE, _CONTENT_ENCODING):
        if flags & flag:
            offset += 1 + payload[offset]
    if flags & _HEADERS:
        offset += 4 + U32.unpack_from(payload, offset)[0]
    offset += bool(flags & _DELIVERY_MODE) + bool(flags & _PRIORITY)
    for flag in (_CORRELATION_ID, _REPLY_TO, _EXPIRATION, _MESSAGE_ID):
        if flags & flag:
            offset += 1 + payload[offset]
    offset += 8 if flags & _TIMESTAMP else 0
    if flags & _TYPE:
        offset += 1 + payload[offset]
    return payload[offset + 1 : offset + 1 + payload[offset]].decode()


def _read_table(payload: bytes, offset: int) -> tuple[dict[str, Any], int]:
    headers: dict[str, Any] = {}
    end = offset + 4 + U32.unpack_from(payload, offset)[0]
    offset += 4
    while offset < end:
        start = offset + 1
        offset = start + payload[offset]
        key = payload[start:offset].decode(errors="replace")
        kind = payload[offset]
        if kind == 83:  # S: a long string
            start = offset + 5
            offset = start + U32.unpack_from(payload, offset + 1)[0]
            headers[key] = payload[start:offset].decode(errors="replace")
        elif kind == 108:  # l: a signed 64-bit integer
            headers[key] = I64.unpack_from(payload, offset + 1)[0]
            offset += 9
        else:
            headers[key], offset = data.decode_value(payload, offset)
    return headers, offset

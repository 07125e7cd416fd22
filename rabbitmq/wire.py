"""pika's connection with a short cut for the frames that come by the thousand.

pika turns every frame into objects and looks each up in a table of callbacks, about 100 us for a delivery.  Here
deliveries and confirms of a channel that has a :class:`Tap` are read straight from the bytes; every other frame
goes pika's way.  It also keeps a watch of its own: pika's heartbeat check notices a dead link only after up to
two times (timeout + 5 s).
"""

from typing import Any, Protocol

from pika import SelectConnection, exceptions, frame

from rabbitmq.frames import ACK, BODY, DELIVER, END_BYTE, HEAD, HEADER, METHOD, NACK, U32, U64

#: Bytes read from the socket at once; pika's own 4096 costs a system call and a copy for every dozen messages.
_READ_BYTES = 1 << 17


class Tap(Protocol):
    """Who takes a channel's deliveries and confirms.  Called on the I/O thread; must not raise."""

    def delivered(self, consumer: bytes, tag: int, redelivered: bool, properties: bytes, body: bytes) -> None:
        """One whole message; ``properties`` is the payload of its content header frame."""

    def confirmed(self, tag: int, multiple: bool, accepted: bool) -> None:
        """basic.ack or basic.nack from the server."""

    def rested(self) -> None:
        """Everything that had arrived has been handed over."""


class Wire(SelectConnection):  # type: ignore[misc]  # pika has no types
    """One AMQP connection, from its opening to its end.  I/O thread only."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._taps: dict[int, Tap] = {}
        self._contents: dict[int, _Content] = {}
        self._frame_buffer: bytes
        super().__init__(*args, **kwargs)

    def tap(self, channel: int, tap: Tap) -> None:
        """Give ``channel``'s deliveries and confirms to ``tap``; to be called before the first can come."""
        self._taps[channel] = tap

    def untap(self, channel: int) -> None:
        self._taps.pop(channel, None)
        self._contents.pop(channel, None)

    def emit(self, data: bytes) -> None:
        """Send whole frames, if any.  Ignored when the connection is no longer open."""
        if self.is_open and data:
            self.bytes_sent += len(data)
            self._adapter_emit_data(data)

    @property
    def unsent_bytes(self) -> int:
        """What the socket has not taken yet."""
        return int(self._transport.get_write_buffer_size()) if self._transport is not None else 0

    @property
    def body_max(self) -> int:
        """The longest body that fits into one frame."""
        return int(self._body_max_length)

    def watch(self, heartbeat_s: float) -> None:
        """From now on, end the connection when nothing arrives for 1.5 to 2 heartbeats.

        Ticks are counted, not seconds: a process that was starved or stopped reads its socket between two ticks,
        so being slow ourselves is not mistaken for a dead peer.
        """
        state = {"seen": -1, "silent": 0}

        def tick() -> None:
            if not self.is_open:
                return
            if state["seen"] != self.bytes_received:
                state.update(seen=self.bytes_received, silent=0)
            else:
                state["silent"] += 1
            if state["silent"] >= 3:
                silence = f"nothing came from RabbitMQ for {1.5 * heartbeat_s:g} s, though it sends heartbeats"
                self._terminate_stream(exceptions.AMQPHeartbeatTimeout(silence))
            else:
                self.ioloop.call_later(heartbeat_s / 2, tick)

        self.ioloop.call_later(heartbeat_s / 2, tick)

    def _proto_connection_made(self, transport: Any) -> None:
        transport._MAX_RECV_BYTES = _READ_BYTES
        super()._proto_connection_made(transport)

    def _on_data_available(self, data_in: bytes) -> None:
        if not self._taps:
            super()._on_data_available(data_in)
            return
        buffer = self._frame_buffer + data_in if self._frame_buffer else data_in
        start, limit = 0, len(buffer)
        taps = self._taps
        while limit - start >= 8:
            kind, channel, size = HEAD.unpack_from(buffer, start)
            payload = start + 7
            end = payload + size
            if end >= limit:
                break
            if buffer[end] != END_BYTE:
                raise exceptions.InvalidFrameError("Invalid FRAME_END marker")
            tap = taps.get(channel)
            if tap is None or not self._take(tap, kind, channel, buffer, payload, end):
                self._process_frame(frame.decode_frame(buffer[start : end + 1])[1])
            start = end + 1
        self.bytes_received += start
        self._frame_buffer = buffer[start:]
        for tap in list(taps.values()):
            tap.rested()

    def _take(self, tap: Tap, kind: int, channel: int, buffer: bytes, payload: int, end: int) -> bool:
        """Handle one frame; false if it is for pika."""
        if kind == METHOD:
            method = U32.unpack_from(buffer, payload)[0]
            if method == DELIVER:
                self._contents[channel] = _Content(buffer, payload + 4)
                return True
            if method in (ACK, NACK):
                tap.confirmed(U64.unpack_from(buffer, payload + 4)[0], bool(buffer[payload + 12] & 1), method == ACK)
                return True
            return False
        content = self._contents.get(channel)
        if content is None:
            return False
        if kind == HEADER:
            content.properties = buffer[payload:end]
            content.missing = U64.unpack_from(buffer, payload + 4)[0]
        elif kind == BODY:
            content.parts.append(buffer[payload:end])
            content.missing -= end - payload
        if content.missing == 0:
            del self._contents[channel]
            body = content.parts[0] if len(content.parts) == 1 else b"".join(content.parts)
            tap.delivered(content.consumer, content.tag, content.redelivered, content.properties, body)
        return True


class _Content:
    """A delivery whose frames are still coming in."""

    __slots__ = ("consumer", "missing", "parts", "properties", "redelivered", "tag")

    def __init__(self, buffer: bytes, offset: int) -> None:
        start = offset + 1
        offset = start + buffer[offset]
        self.consumer = buffer[start:offset]
        self.tag: int = U64.unpack_from(buffer, offset)[0]
        self.redelivered = bool(buffer[offset + 8] & 1)
        self.properties = b""
        self.missing = -1
        self.parts: list[bytes] = []

"""A TCP proxy that misbehaves on demand, between a client and a real server."""

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from typing import Any


class FaultProxy:
    """Listens on 127.0.0.1, on a thread of its own; a context manager.

    stall    half-open: bytes stop in both directions, the sockets stay
    resume   they flow again, the held ones first
    reset    RST on every connection
    refuse   new connections are reset at once
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._pairs: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()
        self._flowing = asyncio.Event()
        self._refusing = False
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0
        self.accepted = 0  #: connections so far

    def __enter__(self) -> "FaultProxy":
        self._thread.start()
        self._run(self._listen())
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._shut())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def url(self, url: str) -> str:
        """The same URL, through the proxy."""
        return url.replace(f":{self._target}/", f":{self.port}/")

    def stall(self) -> None:
        self._call(self._flowing.clear)

    def resume(self) -> None:
        self._call(self._flowing.set)

    def reset(self) -> None:
        self._call(self._reset)

    def refuse(self, refusing: bool = True) -> None:
        self._refusing = refusing

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def _call(self, function: Callable[[], None]) -> None:
        async def call() -> None:
            function()

        self._run(call())

    async def _listen(self) -> None:
        self._flowing.set()
        self._server = await asyncio.start_server(self._client, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _shut(self) -> None:
        self._server.close()
        self._reset()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if self._refusing:
            _abort(writer)
            return
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            _abort(writer)
            return
        self.accepted += 1
        pair = (writer, far_writer)
        self._pairs.add(pair)
        await asyncio.gather(self._pipe(reader, far_writer), self._pipe(far_reader, writer))
        self._pairs.discard(pair)

    async def _pipe(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65536):
                await self._flowing.wait()
                sink.write(data)
                await sink.drain()
        except OSError:
            pass
        finally:
            sink.close()

    def _reset(self) -> None:
        for pair in self._pairs:
            for writer in pair:
                _abort(writer)


def _abort(writer: asyncio.StreamWriter) -> None:
    """Close with RST: without lingering."""
    own = writer.get_extra_info("socket")
    if own is not None and own.fileno() != -1:
        own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()

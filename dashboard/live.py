"""What has changed, for whoever looks on: nudges, never data.

One look a second at the ledger serves every stream of this process, and none is taken while nobody listens.
"""

import asyncio
import json
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping

import structlog

from errors import LedgerUnavailable, TooManyStreams
from ledger.revisions import Revisions, Topic

log = structlog.get_logger(__name__)

LOOK_S = 1.0
#: How long nothing is sent before a comment says that the stream is alive.
HEARTBEAT_S = 15.0
#: How long a stream is open at most: who comes again is identified anew, or has no business here any more.
LONGEST_S = 600.0
#: Streams that one who asks may have open at once.
MOST_STREAMS = 20


class Stream:
    """What one listener has not been told yet."""

    def __init__(self, loop: asyncio.AbstractEventLoop, topics: frozenset[Topic], who: str) -> None:
        self.loop = loop
        self.topics = topics
        self.who = who
        self.news = asyncio.Event()
        self.revs: dict[Topic, int] = {}  #: by topic, the newest that is to be told
        self.over = False

    def tell(self, revs: Mapping[Topic, int]) -> None:
        """From the stream's own thread only."""
        self.revs |= revs
        self.news.set()

    def end(self) -> None:
        """From the stream's own thread only."""
        self.over = True
        self.news.set()

    def soon(self, call: Callable[..., None], *args: object) -> bool:
        """Have it called in the stream's own thread; false when its loop is closed.  Any thread."""
        try:
            self.loop.call_soon_threadsafe(call, *args)
        except RuntimeError:
            return False
        return True


class Hub:
    """Looks at the ledger while anybody listens, and tells each stream which topics have changed.

    Creating one does no I/O.  Thread-safe.
    """

    def __init__(self, url: str, *, look_s: float = LOOK_S) -> None:
        self._url = url
        self._look_s = look_s
        self._lock = threading.Lock()
        self._streams: set[Stream] = set()
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()
        self._closed = False
        self._counts: dict[Topic, int] = {}

    def open(self, topics: Iterable[Topic], who: str) -> Stream:
        """A new stream of the event loop this is called in.  Raises ``TooManyStreams``."""
        stream = Stream(asyncio.get_running_loop(), frozenset(topics), who)
        with self._lock:
            if Counter(one.who for one in self._streams)[who] >= MOST_STREAMS:
                raise TooManyStreams(f"{who} has {MOST_STREAMS} streams open; close one of them")
            if self._closed:
                stream.over = True
                return stream
            self._streams.add(stream)
            if self._thread is None:
                self._wake.clear()
                self._thread = threading.Thread(target=self._run, name="hareline-live", daemon=True)
                self._thread.start()
        return stream

    def leave(self, stream: Stream) -> None:
        """It listens no more.  Idempotent."""
        with self._lock:
            self._streams.discard(stream)
            if not self._streams:
                self._wake.set()

    def end(self) -> None:
        """End all streams, and open no more.  Idempotent; any thread."""
        with self._lock:
            self._closed = True
            streams = list(self._streams)
            self._streams.clear()
            self._wake.set()
        for stream in streams:
            stream.soon(stream.end)

    def close(self) -> None:
        """The same, and wait for the thread.  Idempotent."""
        self.end()
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join(5.0)

    def _run(self) -> None:
        revisions = Revisions(self._url)
        known: Mapping[Topic, int] = {}
        try:
            while self._listened_to():
                try:
                    now = dict(revisions.look())
                    if known and (changed := {topic for topic, rev in now.items() if rev != known.get(topic)}):
                        self._tell(changed)
                    known = now
                except LedgerUnavailable as error:
                    log.warning("live.waits", why=str(error))
                except Exception:  # it looks again: streams that are open would hear nothing any more
                    log.exception("live.failed")
                self._wake.wait(self._look_s)
        finally:
            revisions.close()

    def _listened_to(self) -> bool:
        """Whether to go on; if not, the next stream starts another thread."""
        with self._lock:
            if self._streams:
                self._wake.clear()
                return True
            self._thread = None
            return False

    def _tell(self, changed: set[Topic]) -> None:
        with self._lock:
            for topic in changed:
                self._counts[topic] = self._counts.get(topic, 0) + 1
            streams = list(self._streams)
            revs = {topic: self._counts[topic] for topic in changed}
        for stream in streams:
            mine = {topic: rev for topic, rev in revs.items() if topic in stream.topics}
            if mine and not stream.soon(stream.tell, mine):
                self.leave(stream)


async def told(hub: Hub, stream: Stream, *, again: bool, longest_s: float = LONGEST_S) -> AsyncIterator[str]:
    """The stream as server-sent events, until it ends.

    Parameters:
      again: it was open before: what has changed meanwhile nobody knows, so every topic is nudged.
      longest_s: when it ends at the latest.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + longest_s
    try:
        yield "retry: 2000\n\n"
        if again:
            stream.tell(dict.fromkeys(stream.topics, 0))
        while not stream.over:
            patience = min(HEARTBEAT_S, deadline - loop.time())
            if patience <= 0:
                return
            try:
                await asyncio.wait_for(stream.news.wait(), patience)
            except TimeoutError:
                yield ": alive\n\n"
                continue
            stream.news.clear()
            revs, stream.revs = stream.revs, {}
            for topic, rev in sorted(revs.items()):
                yield f"id: {topic}-{rev}\nevent: {topic}\ndata: {json.dumps({'topic': topic, 'rev': rev})}\n\n"
    finally:
        hub.leave(stream)

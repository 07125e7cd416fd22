"""One connection to RabbitMQ, kept for as long as the process lives."""

import contextlib
import logging
import os
import random
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

from pika import URLParameters
from pika.adapters.select_connection import IOLoop
from pika.channel import Channel

from errors import BrokerUnavailable
from rabbitmq.forks import forget_in_child
from rabbitmq.reasons import explain
from rabbitmq.wire import Wire

log = logging.getLogger(__name__)


class State(StrEnum):
    IDLE = "idle"  #: never started, or a forked child's
    CONNECTING = "connecting"
    OPEN = "open"
    BLOCKED = "blocked"  #: open, but RabbitMQ takes no messages (memory or disk alarm)
    DOWN = "down"  #: between two attempts
    CLOSED = "closed"


def user_of(url: str) -> str:
    """The user an address logs in as; empty when that is not by a password."""
    credentials = addresses(url)[0].credentials
    return str(getattr(credentials, "username", ""))


class Connection:
    """One I/O thread that owns one AMQP connection and reconnects for ever.

    Creating one does no I/O.  ``on_open()`` is called on the I/O thread whenever the connection has opened,
    ``on_down(reason)`` whenever it has ended or an attempt has failed.  Like everything that runs there they must
    be quick: the same thread serves the heartbeats.  A forked child never touches its parent's socket;
    :meth:`start` gives it a thread and a connection of its own.

    Parameters:
      url: ``amqp://user:password@host:port/vhost``, or ``amqps``; hosts separated by commas are tried in turn.
      name: shows in the management UI, with host and process id.
      heartbeat_s: a dead link is noticed within two of these.
    """

    def __init__(
        self,
        url: str,
        *,
        name: str,
        on_open: Callable[[], None],
        on_down: Callable[[str], None],
        heartbeat_s: int = 30,
    ) -> None:
        self._addresses = addresses(url)
        self._name = name
        self._on_open = on_open
        self._on_down = on_down
        self._heartbeat_s = heartbeat_s
        self._loop: IOLoop | None = None
        self._reset()
        forget_in_child(self)

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._wire: Wire | None = None  # while it is open
        self._opening: Wire | None = None  # the latest attempt, whatever became of it
        self._calls: deque[Callable[[], None]] = deque()
        self._woken = False
        self._attempts = 0
        self._closing = False
        self.failures = 0  #: attempts that failed since it was last open
        self.state = State.IDLE
        self.reason = ""  #: why it is not open
        self.server_version: tuple[int, int] | None = None  #: of the server last connected to

    # -- any thread

    def start(self) -> None:
        """Begin to connect, and never stop trying.  Idempotent; returns at once.

        Raises ``BrokerUnavailable`` where this machine has no thread or file left for it; the next call tries again.
        """
        if self.state is not State.IDLE:
            return
        with self._lock:
            if self.state is State.IDLE:
                self._begin()

    def _begin(self) -> None:
        try:
            if self._loop is None:
                self._loop = IOLoop()
                self._loop.add_callback_threadsafe(self._connect)
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self.state = State.CONNECTING  # last: who sees it may call call_soon
            self._thread.start()
        except (RuntimeError, OSError) as error:
            self._thread, self.state = None, State.IDLE  # what was asked of its loop meanwhile stays there
            raise BrokerUnavailable(f"{self._name} cannot connect to RabbitMQ from here: {error}") from error

    def call_soon(self, function: Callable[[], None]) -> None:
        """Run ``function`` on the I/O thread; nothing happens before :meth:`start` or after :meth:`close`.

        However many calls are waiting, the thread is woken once.
        """
        self._calls.append(function)
        if not self._woken and self._loop is not None:
            self._woken = True
            self._loop.add_callback_threadsafe(self._run_calls)

    def close(self, timeout_s: float = 5.0) -> None:
        """Say goodbye and end the thread; what could not be said in ``timeout_s`` is left unsaid.  Idempotent."""
        thread = self._thread
        if thread is None:
            self.state = State.CLOSED
            return
        self.call_soon(lambda: self._close(timeout_s))
        if thread is not threading.current_thread():
            thread.join(timeout_s + 1)

    @property
    def blocked(self) -> bool:
        """Whether RabbitMQ has asked for no more messages on this connection."""
        return self.state is State.BLOCKED

    # -- the I/O thread

    @property
    def wire(self) -> Wire | None:
        """The open connection, or None."""
        return self._wire

    def channel(self, on_open: Callable[[Channel], None]) -> None:
        """Open a channel; nothing happens when the connection is not open, or ends before the channel opens."""
        if self._wire is not None:
            self._wire.channel(on_open_callback=_guarded(on_open))

    def call_later(self, delay_s: float, function: Callable[[], None]) -> Any:
        """Run ``function`` after a delay; returns what :meth:`cancel` takes."""
        assert self._loop is not None
        return self._loop.call_later(delay_s, _guarded(function))

    def cancel(self, timer: Any) -> None:
        """Forget a delayed call; one that has run is ignored."""
        if self._loop is not None:
            self._loop.remove_timeout(timer)

    def _run(self) -> None:
        while True:
            assert self._loop is not None
            try:
                self._loop.start()
                break
            except Exception:
                # Out of pika itself: neither its connection nor its loop is to be trusted any more.
                log.exception("the I/O thread of %s stumbled; it reconnects", self._name)
                self._abandon_socket()
                self._loop.close()
                self._loop = self._another_loop()
                self._loop.add_callback_threadsafe(self._run_calls)
                self._lost("pika failed")
        self.state = State.CLOSED
        self._abandon_socket()
        self._loop.close()

    def _another_loop(self) -> IOLoop:
        while True:
            try:
                return IOLoop()
            except OSError as error:  # out of file descriptors
                log.warning("%s cannot go on for now: %s", self._name, error)
                time.sleep(1.0)

    def _run_calls(self) -> None:
        self._woken = False
        for _ in range(len(self._calls)):
            try:
                self._calls.popleft()()
            except Exception:
                log.exception("a callback on the I/O thread of %s failed", self._name)

    def _connect(self) -> None:
        try:
            self._attempt()
        except Exception as error:  # a machine that is out of threads, or of files
            log.exception("%s could not begin to connect", self._name)
            self._lost(f"{self._name} could not begin to connect: {error}")

    def _attempt(self) -> None:
        self.state = State.CONNECTING
        parameters = self._addresses[self._attempts % len(self._addresses)]
        self._attempts += 1
        parameters.heartbeat = self._heartbeat_s
        parameters.client_properties = {
            "connection_name": f"{self._name} {socket.gethostname()}:{os.getpid()}",
            "product": "Hareline",
        }
        wire = Wire(
            parameters,
            on_open_callback=self._opened,
            on_open_error_callback=self._ended,
            on_close_callback=self._ended,
            custom_ioloop=self._loop,
        )
        wire.add_on_connection_blocked_callback(lambda *_: self._set_blocked(True))
        wire.add_on_connection_unblocked_callback(lambda *_: self._set_blocked(False))
        self._opening = wire

    def _opened(self, wire: Wire) -> None:
        self._wire = wire
        self.failures = 0
        self.reason = ""
        self.server_version = version(wire.server_properties)
        self.state = State.OPEN
        wire.watch(self._heartbeat_s)
        log.info(
            "%s is connected to RabbitMQ %s at %s", self._name, wire.server_properties["version"], _address(wire.params)
        )
        _guarded(self._on_open)()

    def _set_blocked(self, blocked: bool) -> None:
        self.state = State.BLOCKED if blocked else State.OPEN
        if blocked:
            log.warning("RabbitMQ takes no messages from %s: it has a memory or disk alarm", self._name)
        else:
            log.info("RabbitMQ takes messages from %s again", self._name)

    def _ended(self, wire: Wire, error: BaseException) -> None:
        parameters = wire.params
        reason = explain(error, _address(parameters), _user(parameters), parameters.virtual_host)
        if self._closing:
            self._wire = None
            _guarded(lambda: self._on_down(reason))()
            self._stop_loop()
        else:
            self._lost(reason)

    def _lost(self, reason: str) -> None:
        self._wire = None
        self.state = State.DOWN
        if reason != self.reason:  # once for every kind of trouble, however often it is met
            log.warning("%s; trying again", reason)
        self.reason = reason
        delay_s = reconnect_delay_s(self.failures, random.random())
        self.failures += 1
        self.call_later(delay_s, self._connect)
        _guarded(lambda: self._on_down(reason))()

    def _close(self, timeout_s: float) -> None:
        if self._closing:
            return
        self._closing = True
        if self._opening is None or self._opening.is_closed or self._opening.is_closing:
            self._stop_loop()
            return
        self.call_later(timeout_s, self._stop_loop)
        self._opening.close()

    def _stop_loop(self) -> None:
        assert self._loop is not None
        self._loop.stop()

    # -- after a fork

    def forget(self) -> None:
        """In a forked child: let go of the parent's connection without a word to it."""
        self._abandon_socket()
        # Not loop.close(): it would take our wake-up socket out of the epoll set, which is the parent's too.
        poller = getattr(self._loop, "_poller", None)
        for name in ("_r_interrupt", "_w_interrupt", "_poll"):
            _shut(getattr(poller, name, None))
        self._loop = None
        self._reset()

    def _abandon_socket(self) -> None:
        """Close our file descriptor and nothing else: no goodbye and no shutdown, which a parent would notice."""
        wire, self._wire, self._opening = self._opening, None, None
        _shut(getattr(getattr(wire, "_transport", None), "_sock", None))


def _shut(descriptor: Any) -> None:
    if descriptor is not None:
        with contextlib.suppress(OSError):
            descriptor.close()


def addresses(url: str) -> list[URLParameters]:
    """The URL for each of its hosts.  Raises ``ValueError`` for one that pika cannot read."""
    parts = urlsplit(url)
    credentials, at, hosts = parts.netloc.rpartition("@")
    found = []
    for host in hosts.split(","):
        parameters = URLParameters(parts._replace(netloc=f"{credentials}{at}{host}").geturl())
        parameters.socket_timeout = 5
        parameters.stack_timeout = 10
        found.append(parameters)
    return found


def reconnect_delay_s(failures: int, roll: float) -> float:
    """How long to wait after ``failures`` failed attempts: 0.1 s, doubled each time, up to 10 s.

    ``roll``, from 0 to 1, picks between half and all of it, so that the clients of a server that came back do not
    return all at once.
    """
    whole = min(10.0, 0.1 * 2 ** min(failures, 10))
    return float(whole * (0.5 + roll / 2))


def _guarded(function: Callable[..., None]) -> Callable[..., None]:
    """A callback that raises must not end the thread that everything depends on."""

    def guarded(*args: Any) -> None:
        try:
            function(*args)
        except Exception:
            log.exception("a callback on the I/O thread failed")

    return guarded


def version(properties: dict[str, Any]) -> tuple[int, int]:
    """(major, minor) out of what the server says of itself."""
    major, minor = str(properties["version"]).split(".")[:2]
    return int(major), int(minor)


def _address(parameters: URLParameters) -> str:
    return f"{parameters.host}:{parameters.port}"


def _user(parameters: URLParameters) -> str:
    return str(getattr(parameters.credentials, "username", "?"))

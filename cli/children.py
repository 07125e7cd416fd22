"""Processes that we start: one that ends, a signal and a line of output all arrive in one inbox."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import FileIO
from queue import Empty, SimpleQueue

#: Where a worker writes that it is ready, and sees that its supervisor has died.
SUPERVISOR_FD = "SUPERVISOR_FD"
READY, DISMISSED = b".", b"x"


#: Signals to stop within this time are one request.
ONE_REQUEST_S = 0.5


@dataclass(frozen=True)
class Ended:
    """A child has exited; its process group has been told to end too."""

    child: "Child"
    code: int


@dataclass(frozen=True)
class Ready:
    child: "Child"


@dataclass(frozen=True)
class Changed:
    """Source files have changed."""

    paths: tuple[str, ...]


Event = Ended | Ready | Changed | signal.Signals
#: A SimpleQueue may be filled by a signal handler while the same thread waits for it; a Queue would deadlock.
Inbox = SimpleQueue[Event]


class Child:
    """One run of one command, in a session of its own: a Ctrl-C in our terminal reaches it through us only.

    Parameters:
      leash: give it a pipe, to say that it is ready and to see that we are gone.
      piped: its output, both streams, is read from :attr:`process` ``.stdout``.

    Raises ``OSError`` when this machine can have no further process, or thread.
    """

    def __init__(
        self,
        command: Sequence[str],
        inbox: Inbox,
        *,
        env: Mapping[str, str] | None = None,
        leash: bool = False,
        piped: bool = False,
    ) -> None:
        self._inbox = inbox
        self.started_at = time.monotonic()
        self.ready = False
        self.dismissed = False  #: an operator has asked it to stop
        end, mine = os.pipe() if leash else (-1, -1)
        pipe = os.fdopen(end, "rb", buffering=0) if leash else None
        started: subprocess.Popen[str] | None = None
        try:
            self.process = started = subprocess.Popen(
                command,
                env={**os.environ, **(env or {}), **({SUPERVISOR_FD: str(mine)} if leash else {})},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if piped else None,
                stderr=subprocess.STDOUT if piped else None,
                text=True,
                errors="replace",
                start_new_session=True,
                pass_fds=(mine,) if leash else (),
            )
            if pipe is not None:
                threading.Thread(target=self._listen, args=(pipe,), daemon=True).start()
            threading.Thread(target=self._wait, daemon=True).start()
        except (OSError, RuntimeError) as error:
            if started is not None:  # nobody would hear of its end
                self.kill()
                started.wait()
            if pipe is not None:
                pipe.close()
            raise OSError(f"this machine can have no further process or thread now: {error}") from error
        finally:
            if leash:
                os.close(mine)

    @property
    def pid(self) -> int:
        return self.process.pid

    def ask(self) -> None:
        """Ask it to end in good order; once, for the second time means at once to most."""
        self.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL, to it and to its own children."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def _wait(self) -> None:
        code = self.process.wait()
        with suppress(ProcessLookupError):  # it may have died before its children
            os.killpg(self.pid, signal.SIGTERM)
        self._inbox.put(Ended(self, code))

    def _listen(self, pipe: FileIO) -> None:
        with pipe:
            while said := pipe.read(1):  # until it, and all its children, are gone: they see our end closed when we die
                if said == DISMISSED:
                    self.dismissed = True
                elif not self.ready:
                    self.ready = True
                    self._inbox.put(Ready(self))


def catch(inbox: Inbox, *numbers: signal.Signals) -> None:
    """Deliver these signals to the inbox from now on.  For the main thread."""
    for number in numbers:
        signal.signal(number, lambda caught, frame: inbox.put(signal.Signals(caught)))


class Stops:
    """Tells one request to stop from two: ``timeout`` and ``make`` pass on a Ctrl-C that arrives by itself as well."""

    def __init__(self) -> None:
        self._first = 0.0

    def again(self) -> bool:
        """Whether this is a further request, meant as one."""
        now = time.monotonic()
        if not self._first:
            self._first = now
            return False
        return now - self._first > ONE_REQUEST_S


def receive(inbox: Inbox, timeout_s: float | None) -> Event | None:
    """The next event, or None when there was none in that time."""
    try:
        return inbox.get(timeout=None if timeout_s is None else max(0.0, timeout_s))
    except Empty:
        return None


def fate(code: int) -> str:
    """How a process ended, in words."""
    if code >= 0:
        return f"ended with status {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"

"""A server process of ours: on a leash, in a directory of its own, on ports nobody uses."""

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

_LEASH = Path(__file__).with_name("leash.py")


class ServerError(Exception):
    """Raised when a server did not start or stop as it should; carries the end of its log."""


class Process:
    """Starts, stops and kills one server; may be started again after either."""

    def __init__(self, name: str) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix=f"hareline-tests-{name}-"))
        self.directory.chmod(0o755)  # a server that must not run as root has to get through
        self.log = self.directory / "log"
        self._leash: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        return self._leash is not None and self._leash.poll() is None

    def start(
        self, command: Sequence[str], env: Mapping[str, str], ready: Callable[[], bool], timeout_s: float
    ) -> None:
        """Run ``command`` and wait until ``ready()``; nothing happens if it runs already."""
        if self.running:
            return
        leashed = [sys.executable, "-I", str(_LEASH), str(os.getpid()), str(self.directory), *command]
        with self.log.open("ab") as log:
            # A session of its own: a signal to pytest's whole process group must not take the leash before the server.
            self._leash = leash = subprocess.Popen(
                leashed,
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + timeout_s
        while not ready():
            if leash.poll() is not None:
                raise ServerError(f"{command[-1]} ended with {leash.returncode} before it was ready:\n{self.tail()}")
            if time.monotonic() > deadline:
                self.kill()
                raise ServerError(f"{command[-1]} was not ready after {timeout_s} s:\n{self.tail()}")
            time.sleep(0.05)

    def stop(self, number: signal.Signals, timeout_s: float) -> None:
        """Ask it to end in good order; kills it, and raises, when it does not."""
        if self._leash is None or not self.running:
            return
        self._leash.send_signal(number)
        try:
            self._leash.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise ServerError(f"the server did not stop within {timeout_s} s:\n{self.tail()}") from None

    def kill(self) -> None:
        """SIGKILL to the server and all its processes; they are gone when this returns."""
        if self._leash is not None and self.running:
            self._leash.send_signal(signal.SIGUSR1)
            self._leash.wait(10)

    def remove(self) -> None:
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-30:])


def free_port(count: int = 1) -> int:
    """The first of ``count`` ports in a row on 127.0.0.1 that nobody listens on.

    Below the range the kernel takes for outgoing connections: a server that is down for a while must get its port back.
    """
    while True:
        first = random.randrange(20000, 32000)
        if all(_is_free(port) for port in range(first, first + count)):
            return first


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True

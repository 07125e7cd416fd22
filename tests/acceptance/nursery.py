"""Starts Python programs in a hundredth of the time: a process that has imported the libraries forks one for each.

Nothing that reads its environment is imported before the fork (failpoints do), and every program runs in a session, an
environment and a folder of its own, as one started from a shell would.
"""

import atexit
import contextlib
import functools
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, Protocol

LIBRARIES = (
    "alembic.command",
    "dramatiq.cli",
    "dramatiq.results",
    "httpx",
    "pika",
    "psycopg",
    "pydantic",
    "rich.console",
    "rich.table",
    "sqlalchemy.dialects.postgresql.psycopg",
    "sqlalchemy.dialects.sqlite",
    "structlog",
    "typer",
    "uuid_utils",
    "control.jobs",
    "ledger.migrate",
    "ledger.queries",
    "logs",
    "rabbitmq.consumer",
    "rabbitmq.management",
    "rabbitmq.publisher",
    "settings",
)


class HasFileno(Protocol):
    def fileno(self) -> int: ...


class Program:
    """A program started by a :class:`Nursery`: as much of a ``Popen`` as the tests need.

    Its process id, and so its process group's, is given to no other process before :meth:`close`.
    """

    def __init__(self, status: int, stdout: IO[str] | None) -> None:
        self._status = os.fdopen(status, "rb", buffering=0)
        self.pid = int(self._status.readline())
        self.stdout = stdout
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Its exit code, negative for the signal that killed it; None while it runs."""
        return self._look(0)

    def wait(self, timeout: float | None = None) -> int:
        code = self._look(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(f"pid {self.pid}", timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """kill -9, the program and its whole process group, even if it has ended itself."""
        assert not self._status.closed, "its number may be another's by now"
        os.killpg(self.pid, signal.SIGKILL)
        self.wait(10)

    def close(self) -> None:
        """Let go of it once it has ended; nobody may signal it any more.  Idempotent."""
        assert self.returncode is not None, "wait() first"
        self._status.close()

    def _look(self, timeout: float | None) -> int | None:
        if self.returncode is None and select.select([self._status], [], [], timeout)[0]:
            self.returncode = int(self._status.readline())
        return self.returncode


class Nursery:
    """One such process; it ends with its owner."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.acceptance.nursery"], env=env, stdin=theirs.fileno()
            )

    def start(
        self,
        arguments: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        stdin: HasFileno | None = None,
        stdout: HasFileno | None = None,
        stderr: HasFileno | None = None,
    ) -> Program:
        """Run ``python ARGUMENTS`` (``-m MODULE …`` or ``-c CODE``).

        Without ``stdout`` the program's can be read from; without ``stderr`` it goes where ``stdout`` does.
        """
        ours, theirs = socket.socketpair()
        status = theirs.detach()
        reader, writer = os.pipe() if stdout is None else (None, stdout.fileno())
        request = {"arguments": list(arguments), "env": dict(env), "cwd": str(cwd)}
        nothing = os.open(os.devnull, os.O_RDONLY)
        ends = [status, nothing if stdin is None else stdin.fileno(), writer, stderr.fileno() if stderr else writer]
        folder = cwd / f"program-{status}-{time.monotonic_ns()}"
        folder.write_text(json.dumps(request))  # too long for a packet, perhaps
        socket.send_fds(self._socket, [str(folder).encode()], ends)
        os.close(status)
        os.close(nothing)
        if reader is not None:
            os.close(writer)
        return Program(ours.detach(), os.fdopen(reader, errors="replace") if reader is not None else None)

    def run(self, arguments: Sequence[str], *, env: Mapping[str, str], cwd: Path) -> subprocess.CompletedProcess[str]:
        """Run it to its end."""
        with TemporaryFile() as stdout, TemporaryFile() as stderr:
            program = self.start(arguments, env=env, cwd=cwd, stdout=stdout, stderr=stderr)
            code = program.wait(120)
            program.close()
            for file in (stdout, stderr):
                file.seek(0)
            return subprocess.CompletedProcess(arguments, code, stdout.read().decode(), stderr.read().decode())

    def close(self) -> None:
        self._socket.close()
        self._process.wait(10)


@functools.cache
def nursery() -> Nursery:
    """The one of this test run."""
    found = Nursery(
        {
            **os.environ,
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "PYTHONUNBUFFERED": "1",
            "dramatiq_worker_timeout": "100",  # ms until an idle thread sees that it was told to stop
        }
    )
    atexit.register(found.close)
    return found


def main() -> None:
    """Fork for every request; only the children of children come out of the loop, and run."""
    for library in LIBRARIES:
        importlib.import_module(library)
    assert "failpoints" not in sys.modules
    door = socket.socket(fileno=os.dup(0))
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        path, ends, _, _ = socket.recv_fds(door, 4096, 4)
        if not path:
            return
        if os.fork() == 0:
            break
        for end in ends:
            os.close(end)
    door.close()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _watch(*ends)
    _become(json.loads(Path(os.fsdecode(path)).read_text()), *ends)


def _watch(status: int, *streams: int) -> None:
    """Fork once more; the parent tells what becomes of the child, which returns."""
    pid = os.fork()
    if pid:
        os.setsid()  # no signal meant for the child's group or the owner's reaches us
        for end in streams:
            os.close(end)
        os.write(status, f"{pid}\n".encode())
        ended = os.pidfd_open(pid)
        if ended in select.select([ended, status], [], [])[0]:
            how = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
            assert how is not None
            code = how.si_status if how.si_code == os.CLD_EXITED else -how.si_status
            with contextlib.suppress(BrokenPipeError):
                os.write(status, f"{code}\n".encode())
            select.select([status], [], [])  # until its owner lets go of it: its number must not become another's
        else:  # the owner is gone
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
            os.kill(pid, signal.SIGKILL)  # it may not have had the time to lead a group
        os.waitpid(pid, 0)
        os._exit(0)


def _become(request: dict[str, Any], status: int, *streams: int) -> None:
    os.close(status)
    os.setsid()
    for number, end in enumerate(streams):
        os.dup2(end, number)
    os.closerange(3, 64)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    kind, what, *rest = request["arguments"]
    if kind == "-m":
        sys.argv = [what, *rest]
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        sys.argv = ["-c", *rest]
        exec(compile(what, "<string>", "exec"), {"__name__": "__main__"})


if __name__ == "__main__":
    main()

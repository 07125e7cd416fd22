"""A whole Hareline system for a test: real worker processes, a real ledger, a real road."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from sqlalchemy import create_engine, text

from ledger.queries import Queries
from ledger.sqlite.file import path_of
from ledger.sqlite.turn import turn
from tests.acceptance.nursery import Program, nursery
from tests.acceptance.shell import Shell

ROOT = Path(__file__).parents[2]
READY = "Worker process is ready for action."


class Worker:
    """A ``dramatiq`` process with its children, in a process group of its own."""

    def __init__(self, process: Program) -> None:
        self.process = process
        self.lines: list[str] = []
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as output:
            for line in output:
                with self._news:
                    self.lines.append(line.rstrip())
                    self._news.notify_all()
        with self._news:
            self._news.notify_all()

    def wait_line(self, part: str, timeout_s: float = 60.0) -> str:
        """The first line that contains ``part``; raises when the process ends, or time, without one."""
        deadline = time.monotonic() + timeout_s
        with self._news:
            while True:
                for line in self.lines:
                    if part in line:
                        return line
                left = deadline - time.monotonic()
                if left <= 0 or (self.process.poll() is not None and not self._news.wait(0.5)):
                    raise AssertionError(f"no line with {part!r} within {timeout_s} s:\n" + "\n".join(self.lines[-60:]))
                self._news.wait(min(left, 0.5))

    def children(self) -> list[int]:
        """The pids of its worker processes that live."""
        found = []
        for task in Path(f"/proc/{self.process.pid}/task").glob("*/children"):
            with suppress(FileNotFoundError, ProcessLookupError):
                found += [int(pid) for pid in task.read_text().split()]
        return [pid for pid in found if _lives(pid)]

    def kill(self) -> None:
        """kill -9, the process and its children, at once."""
        self.process.kill()
        self._reader.join(10)

    def stop(self, timeout_s: float = 30.0) -> int:
        """SIGTERM; returns the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout_s)

    def signal(self, number: signal.Signals) -> None:
        """To the whole group."""
        os.killpg(self.process.pid, number)

    def freeze(self, ledger: str) -> None:
        """Stop it where it is; but in no write to a SQLite ledger, which would be locked for all until it goes on."""
        with turn(path_of(ledger)) if ledger.startswith("sqlite:") else nullcontext():
            self.signal(signal.SIGSTOP)


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@dataclass(frozen=True)
class Produced:
    """See :func:`tests.acceptance.producing.steadily`."""

    sent: list[str]
    refused: list[str]
    slowest_s: float


class Producer:
    """A process that sends jobs while the test breaks something."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n", process.communicate()[1]

    def stop(self) -> Produced:
        """Let it end; what it did."""
        output, errors = self._process.communicate(timeout=60)
        assert self._process.returncode == 0, f"{output}\n{errors}"
        return Produced(**json.loads(output.splitlines()[-1]))


class System:
    """Settings shared by this test and the processes it starts.

    ``env`` holds them; ``run`` evaluates a line of Python in a producer process of its own.
    """

    def __init__(self, folder: Path, database_url: str, broker_url: str | None, **env: str) -> None:
        self.folder = folder
        self.log = folder / "ran.log"
        self.log.touch()
        self.database_url = database_url
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("HARELINE_", "WORKER_"))},
            "DATABASE_URL": database_url,
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "dramatiq_worker_timeout": "100",  # ms until an idle thread sees that it was told to stop
            "WORKER_QUEUE_STALLED_INTERVAL": "2000",
            "HARELINE_SHUTDOWN_GRACE_S": "2",
            "HARELINE_PUBLISH_AFTER_S": "1",
            "HARELINE_RESEND_AFTER_S": "2",
            **env,
        }
        if broker_url:
            self.env["BROKER_URL"] = broker_url
        self.broker_url = broker_url
        self.queries = Queries(database_url)
        self.engine = create_engine(database_url.replace("postgresql://", "postgresql+psycopg://"), pool_pre_ping=True)
        self.workers: list[Worker] = []
        self.shells: list[Shell] = []

    def worker(
        self,
        *,
        processes: int = 1,
        env: Mapping[str, str] | None = None,
        args: tuple[str, ...] = (),
        ready: bool = True,
        app: str = "tests.acceptance.app",
    ) -> Worker:
        """Start ``dramatiq APP -p processes``, and wait until it is ready."""
        process = nursery().start(
            ["-m", "dramatiq", app, "-p", str(processes), *args], env={**self.env, **(env or {})}, cwd=self.folder
        )
        worker = Worker(process)
        self.workers.append(worker)
        if ready:
            worker.wait_line(READY)
        return worker

    def run(
        self, code: str, *, env: Mapping[str, str] | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run code in a producer process, with the actors and ``log`` (the path they write to) in scope."""
        program = f"from tests.acceptance.app import *\nlog = {str(self.log)!r}\n{code}"
        done = nursery().run(["-c", program], env={**self.env, **(env or {})}, cwd=self.folder)
        if check and done.returncode:
            raise AssertionError(f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    def shell(self, app: str = "tests.acceptance.app") -> Shell:
        """Start a producer that stays, for many sends."""
        ours, theirs = socket.socketpair()
        program = f"from {app} import *\nimport tests.acceptance.shell\nlog = {str(self.log)!r}\n"
        program += "tests.acceptance.shell.serve(globals())"
        with ours, theirs, TemporaryFile(dir=self.folder) as errors:
            process = nursery().start(
                ["-c", program], env=self.env, cwd=self.folder, stdin=theirs, stdout=theirs, stderr=errors
            )
            shell = Shell(ours.makefile("rw"), process)
        self.shells.append(shell)
        return shell

    @contextmanager
    def producer(self, send: str, prefix: str = "job", *, pause_s: float = 0.01) -> Iterator[Producer]:
        """A process that keeps evaluating ``send`` (an expression that makes a function of a line), beside the test."""
        program = (
            "from tests.acceptance.app import *\nfrom tests.acceptance.producing import steadily\n"
            f"log = {str(self.log)!r}\nsteadily({send}, {prefix!r}, pause_s={pause_s})"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", program],
            cwd=self.folder,
            env=self.env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            yield Producer(process)
        finally:
            if process.poll() is None:
                process.kill()
                process.communicate()

    def ran(self) -> list[str]:
        """What the actors wrote so far."""
        return self.log.read_text().splitlines()

    def states(self) -> dict[str, int]:
        """How many jobs are in each state, over all queues, in the hot table."""
        total: dict[str, int] = {}
        for states in self.queries.counts().values():
            for state, count in states.items():
                total[str(state)] = total.get(str(state), 0) + count
        return {state: count for state, count in total.items() if count}

    def sql(self, statement: str, **parameters: object) -> list[tuple[Any, ...]]:
        """Rows of one statement; a write is committed."""
        with self.engine.begin() as connection:
            result = connection.execute(text(statement), parameters)
            return [tuple(row) for row in result] if result.returns_rows else []

    def until(self, what: Callable[[], object], timeout_s: float = 30.0, *, because: str = "") -> object:
        """Wait until ``what()`` is true; its value.  The ledger has no signal for a test, so it is asked often."""
        deadline = time.monotonic() + timeout_s
        while True:
            value = what()
            if value:
                return value
            if time.monotonic() > deadline:
                output = "\n".join(line for worker in self.workers for line in worker.lines[-40:])
                raise AssertionError(f"not within {timeout_s} s {because}: {value!r}; states {self.states()}\n{output}")
            time.sleep(0.02)

    def finished(self, count: int, timeout_s: float = 60.0) -> dict[str, int]:
        """Wait until no job is live and at least ``count`` are finished; the states then."""

        def over() -> dict[str, int] | None:
            states = self.states()
            live = sum(states.get(state, 0) for state in ("delayed", "waiting", "active"))
            done = sum(states.values()) - live
            return states if not live and done >= count else None

        found = self.until(over, timeout_s, because=f"waiting for {count} finished jobs")
        assert isinstance(found, dict)
        return found

    def close(self) -> None:
        for shell in self.shells:
            shell.close()
        for worker in self.workers:
            worker.kill()
            worker.process.close()
        self.queries.close()
        self.engine.dispose()


@contextmanager
def system(folder: Path, database_url: str, broker_url: str | None, **env: str) -> Iterator[System]:
    found = System(
        folder, database_url, broker_url, HARELINE_KEEP_COMPLETED="1000000", HARELINE_KEEP_FAILED="1000000", **env
    )
    try:
        yield found
    finally:
        found.close()

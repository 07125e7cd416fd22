"""A program of ours under test: its output line by line as it comes, its exit code."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

ROOT = Path(__file__).parents[1]


def environment(**variables: str) -> dict[str, str]:
    """This process's environment without any settings, and with these."""
    ours = ("HARELINE_", "WORKER_", "DATABASE_URL", "BROKER_URL", "POSTHOG_", "OPENAI_", "AUDIT_LOG_")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {**clean, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **variables}


def hareline(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "cli", *arguments]


class Program:
    """One running command, in a process group of its own; what is left of it at the end of the ``with`` is killed."""

    def __init__(self, command: Sequence[str], folder: Path, env: Mapping[str, str]) -> None:
        self.lines: list[str] = []
        self._news = threading.Condition()
        self._over = False
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        threading.Thread(target=self._read, daemon=True).start()

    def wait(self, *parts: str, count: int = 1, timeout_s: float = 60.0) -> list[str]:
        """The lines that contain all of these, once there are ``count``; raises if the program or time ends before."""
        deadline = time.monotonic() + timeout_s
        with self._news:
            while len(found := [line for line in self.lines if all(part in line for part in parts)]) < count:
                left = deadline - time.monotonic()
                if self._over or left <= 0:
                    why = "when the program ended" if self._over else f"after {timeout_s} s"
                    text = "\n".join(self.lines[-60:])
                    raise AssertionError(f"{len(found)} lines instead of {count} with {parts} {why}:\n{text}")
                self._news.wait(left)
        return found

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def stop(self, number: signal.Signals = signal.SIGTERM, timeout_s: float = 60.0) -> int:
        """Send the signal, wait for its end; returns the exit code."""
        self.send(number)
        return self.process.wait(timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(10)
        assert self.process.stdout is not None
        with self._news:
            self._news.wait_for(lambda: self._over, 10)
        self.process.stdout.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._news:
                self.lines.append(line.rstrip("\n"))
                self._news.notify_all()
        with self._news:
            self._over = True
            self._news.notify_all()

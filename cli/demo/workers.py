"""The demo's worker processes."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from errors import HarelineError

_ROOT = Path(__file__).parents[2]


class WorkersStopped(HarelineError):
    """Raised when the workers have exited though nobody asked them to."""


class Workers:
    """``hareline worker``, within ``with``; its log goes to ``log``."""

    def __init__(self, processes: int, env: Mapping[str, str], log: Path) -> None:
        self._command = [sys.executable, "-m", "cli", "worker", "--processes", str(processes)]
        path = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))
        self._env = {**os.environ, "PYTHONPATH": path, **env}
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def check(self) -> None:
        """Raise :class:`WorkersStopped`, with the end of their log, unless they run."""
        if self._process is not None and self._process.poll() is not None:
            raise WorkersStopped(f"the workers exited with status {self._process.returncode}; {self.log_tail()}")

    def log_tail(self) -> str:
        """The end of their log, for an error."""
        return "\n".join(["their log ends:", *self._log.read_text(errors="replace").splitlines()[-20:]])

    def __enter__(self) -> Self:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, env=self._env, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        process = self._process
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGTERM)  # a second one: kill
            process.wait()

"""The files of one host's processes, and what is left of those that have ended."""

import fcntl
import hashlib
import json
import math
import os
import secrets
import stat
import tempfile
import threading
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from errors import SettingsError
from metrics.catalogue import BY_NAME, DIGEST, PROCESSES
from metrics.file import File, Pair, Series, locked, read
from metrics.meter import Change

#: Says what the ledger has of finishes that a process left behind; None while it cannot be known.
Settle = Callable[[Sequence[Pair]], "list[Change] | None"]
Values = dict[Series, "array[float]"]

_SUFFIX: Final = ".metrics"


class Folder:
    """What the processes of one host share that count for one address and one ledger.  Creating one does no I/O.

    It is in memory, and as old as the host (or container): counters go on though every process was away.
    """

    def __init__(self, port: int, url: str) -> None:
        place = "/dev/shm" if os.path.isdir("/dev/shm") else tempfile.gettempdir()
        ledger = hashlib.sha256(f"{url} {Path.cwd() if url.startswith('sqlite') else ''}".encode()).hexdigest()[:12]
        self.path = Path(place) / f"hareline-metrics-{os.geteuid()}-{port}-{ledger}-{DIGEST}"
        self._exporter: int | None = None
        self._lock = threading.Lock()  # between who takes over a file and who reads it

    def join(self, role: str) -> File:
        """A file for this process.  Raises ``SettingsError`` when the folder is not ours."""
        self._make()
        name = f"{role}-{os.getpid()}-{secrets.token_hex(4)}"
        file = File(self.path / f"{name}.new")
        file.path = file.path.rename(self.path / f"{name}{_SUFFIX}")  # seen by others once it is locked
        return file

    def lead(self) -> bool:
        """Whether this process serves the address: one at a time does, until it ends or calls :meth:`yield_`."""
        if self._exporter is None:
            self._make()
            descriptor = os.open(self.path / "exporter", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                return False
            self._exporter = descriptor
        return True

    def yield_(self) -> None:
        """Let another serve.  Idempotent; also in a forked child, for whom it lets go of what is the parent's."""
        if self._exporter is not None:
            os.close(self._exporter)
            self._exporter = None

    def values(self) -> Values:
        """Of all processes together, as Prometheus is to have it; gauges of the living only."""
        living: Counter[str] = Counter()
        with self._lock:
            found = self._load()[1]
            for path in self._files():
                alive = locked(path)
                living[path.name.partition("-")[0]] += alive
                _add(found, read(path).values, gauges=alive)
        for role, count in living.items():
            if count:
                found[PROCESSES.name, (role,)] = array("d", [count])
        return found

    def fold(self, settle: Settle) -> None:
        """Take over what processes that have ended counted, with what they had committed and not counted.

        For the one that leads.  A file that cannot be settled yet stays.
        """
        for path in self._files():
            if locked(path):
                continue
            content = read(path)
            changes = settle(content.pending) if content.pending else []
            if changes is None:
                continue
            with self._lock:
                last, values = self._load()
                if path.name != last:  # else whoever served before was killed after it had taken it over
                    _add(values, content.values, gauges=False)
                    _apply(values, changes)
                    self._store(path.name, values)
                path.unlink()

    def _files(self) -> list[Path]:
        return sorted(self.path.glob(f"*{_SUFFIX}"))

    @property
    def _ended(self) -> Path:
        return self.path / "ended.json"

    def _load(self) -> tuple[str, Values]:
        """The name of the file that was taken over last, and what all of them counted."""
        try:
            told = json.loads(self._ended.read_text())
        except FileNotFoundError:
            return "", {}
        return told["last"], {(name, tuple(labels)): array("d", values) for name, labels, values in told["values"]}

    def _store(self, last: str, values: Values) -> None:
        rows = [[name, labels, list(numbers)] for (name, labels), numbers in values.items()]
        written = self.path / "ended.new"
        written.write_text(json.dumps({"last": last, "values": rows}))
        written.rename(self._ended)

    def _make(self) -> None:
        with suppress(FileExistsError):
            self.path.mkdir(mode=0o700)
        status = self.path.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
            raise SettingsError(f"{self.path} is not a folder of this user alone; remove it")


def _add(values: Values, more: Values, *, gauges: bool) -> None:
    for series, numbers in more.items():
        metric = BY_NAME[series[0]]
        if metric.kind == "gauge" and (not gauges or math.isnan(numbers[0])):
            continue
        known = values.get(series)
        if known is None:
            values[series] = numbers
        elif metric.largest:
            known[0] = max(known[0], numbers[0])
        else:
            for place, number in enumerate(numbers):
                known[place] += number


def _apply(values: Values, changes: Iterable[Change]) -> None:
    """As a meter does it; gauges are of the living."""
    for metric, labels, number in changes:
        numbers = values.setdefault((metric.name, labels), array("d", [0.0] * metric.width))
        if metric.kind == "counter":
            numbers[0] += number
        elif metric.kind == "histogram":
            numbers[bisect_left(metric.buckets, number)] += 1
            numbers[-1] += number

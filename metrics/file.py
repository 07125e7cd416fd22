"""One process's numbers, in a file that outlives the process.

A file has two banks, which are written in turn; a number at its beginning says how often, and so which one counts.
Whatever kills the process, between whichever two stores, a reader finds all of a change or nothing of it.

    count of writes | names of the series, one JSON line each | bank | bank
    bank:  how many values | length of the names | length of the pending | pending | values
"""

import fcntl
import json
import mmap
import os
import struct
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from metrics.catalogue import BY_NAME

_NAMES: Final = 1 << 20
_PENDING: Final = 1 << 16
_VALUES: Final = 1 << 16  # doubles
_HEAD: Final = struct.Struct("@QQQ")
_COUNT: Final = struct.Struct("@Q")
_BANK: Final = _HEAD.size + _PENDING + 8 * _VALUES
_FIRST: Final = 64 + _NAMES

#: A job and its epoch, as one claim is known.
Pair = tuple[str, int]
#: A metric's name and the values of its labels.
Series = tuple[str, tuple[str, ...]]


class Full(Exception):
    """Raised when no further series fits."""


class File:
    """The writing side.  Not thread-safe.  The file is locked as long as its process, and nobody it forked, lives."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.values = array("d")
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        os.ftruncate(self._descriptor, _FIRST + 2 * _BANK)  # sparse: what is not used takes no room
        self._map = mmap.mmap(self._descriptor, 0)
        self._names = 0
        self._writes = 0

    def series(self, name: str, labels: Sequence[str]) -> int:
        """A place for a new series: the number of its first value.  Raises :class:`Full`."""
        line = json.dumps([name, *labels]).encode() + b"\n"
        place, width = len(self.values), BY_NAME[name].width
        if self._names + len(line) > _NAMES or place + width > _VALUES:
            raise Full(name)
        start = 64 + self._names
        self._map[start : start + len(line)] = line
        self._names += len(line)
        self.values.extend([0.0] * width)
        return place

    def publish(self, pending: bytes = b"") -> None:
        """Let :attr:`values` and ``pending`` be what counts."""
        values = memoryview(self.values).cast("B")
        start = _FIRST + _BANK * ((self._writes + 1) % 2)
        _HEAD.pack_into(self._map, start, len(self.values), self._names, len(pending))
        start += _HEAD.size
        self._map[start : start + len(pending)] = pending
        start += _PENDING
        self._map[start : start + len(values)] = values
        values.release()  # an array that is looked at cannot grow
        self._writes += 1
        _COUNT.pack_into(self._map, 0, self._writes)

    def close(self) -> None:
        """Leave the file to whoever reads the files of processes that have ended."""
        self._map.close()
        os.close(self._descriptor)


@dataclass(slots=True)
class Content:
    """What a file says."""

    values: dict[Series, "array[float]"] = field(default_factory=dict)
    pending: list[Pair] = field(default_factory=list)  #: about to be committed, and not counted yet


def encoded(pairs: Sequence[Pair]) -> bytes:
    """The pending pairs as they are kept; of more than fit, none."""
    text = "".join([f"{job} {epoch}\n" for job, epoch in pairs]).encode()
    return text if len(text) <= _PENDING else b""


def read(path: Path) -> Content:
    """What a file says now, of a live process too.  Raises ``FileNotFoundError``."""
    content = Content()
    with path.open("rb") as file:
        for _ in range(100):
            if not (writes := _writes(file.fileno())):
                return content
            start = _FIRST + _BANK * (writes % 2)
            count, names, length = _HEAD.unpack(os.pread(file.fileno(), _HEAD.size, start))
            pending = os.pread(file.fileno(), length, start + _HEAD.size)
            numbers = os.pread(file.fileno(), 8 * count, start + _HEAD.size + _PENDING)
            if _writes(file.fileno()) == writes:  # else its process may have begun to write there
                break
        lines = os.pread(file.fileno(), names, 64).splitlines()
    values = array("d")
    values.frombytes(numbers)
    place = 0
    for line in lines:
        name, *labels = json.loads(line)
        width = BY_NAME[name].width
        content.values[name, tuple(labels)] = values[place : place + width]
        place += width
    for row in pending.decode().splitlines():
        job, _, epoch = row.rpartition(" ")
        content.pending.append((job, int(epoch)))
    return content


def _writes(descriptor: int) -> int:
    raw = os.pread(descriptor, _COUNT.size, 0)
    return int(_COUNT.unpack(raw)[0]) if len(raw) == _COUNT.size else 0


def locked(path: Path) -> bool:
    """Whether the process of a file lives.  Raises ``FileNotFoundError``."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False

"""The lines of a text file, compressed or not, and where each of them ends."""

import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO, cast

from actors.extras import extra
from actors.sources import Source
from errors import Failure

#: Bytes of the longest line that is read: a file without line ends is not read into memory.
LONGEST = 10_000_000
_STEP = 1 << 20


class Lines(Iterator[str]):
    """Lines with their ends; ``position`` and ``number`` are those behind the line that was given last.

    The position is an offset of the unpacked text.  Raises ``Failure`` for a line that is too long, and for what cannot
    be unpacked.
    """

    def __init__(self, source: Source, compression: str) -> None:
        self.position = self.number = 0
        self._name = source.name
        self._compressed = bool(compression)
        self._file = _unpacked(source, compression)

    def __next__(self) -> str:
        line = self._read(self._file.readline, LONGEST + 1)
        if not line:
            raise StopIteration
        if len(line) > LONGEST:
            raise Failure(f"{self._name}, line {self.number + 1}: longer than {LONGEST:,} bytes", code="unreadable")
        text = line.decode("utf-8-sig" if self.position == 0 else "utf-8", errors="replace")
        self.position += len(line)
        self.number += 1
        return text

    def go_to(self, position: int, number: int) -> None:
        """Go on there, which is not before here.  What is packed has to be unpacked on the way."""
        if not self._compressed:
            self._file.seek(position)
        else:
            left = position - self.position
            while left > 0 and (skipped := self._read(self._file.read, min(left, _STEP))):
                left -= len(skipped)
        self.position, self.number = position, number

    def _read(self, read: Callable[[int], bytes], most: int) -> bytes:
        try:
            return read(most)
        except (EOFError, OSError, zlib.error) as error:
            if not self._compressed:
                raise
            raise Failure(f"{self._name} cannot be unpacked: {error}", code="unreadable") from error


def _unpacked(source: Source, compression: str) -> BinaryIO:
    match compression:
        case ".gz":
            return cast("BinaryIO", gzip.GzipFile(fileobj=source.file))
        case ".zst":
            pyarrow = extra("pyarrow", "reading .zst", "'hareline[data]'")
            stream = pyarrow.CompressedInputStream(pyarrow.PythonFile(source.file, mode="r"), "zstd")
            return io.BufferedReader(stream, _STEP)
    return source.file

"""Files that are elsewhere, read piece by piece: never more of one in memory than a piece."""

import io
from collections.abc import Callable

#: What is asked for at once, when less is read.
PIECE = 1 << 20

Fetch = Callable[[int, int], bytes]


class Ranged(io.RawIOBase):
    """A file of which ``fetch`` gives the bytes from one offset to before another."""

    def __init__(self, size: int, fetch: Fetch) -> None:
        self._size, self._fetch, self._at = size, fetch, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        end = min(self._at + len(buffer), self._size)
        if end <= self._at:
            return 0
        piece = self._fetch(self._at, end)
        buffer[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)


def ranged(size: int, fetch: Fetch) -> io.BufferedReader:
    """A file of this size, to be closed by who reads it."""
    return io.BufferedReader(Ranged(size, fetch), PIECE)

"""Wakes the other processes of this machine that share a ledger: one datagram, about a millisecond.

A bell carries no news; whoever hears it looks into the ledger.  So a lost ring costs a poll's delay,
never a job.
"""

import errno
import hashlib
import logging
import os
import select
import socket
import stat
import tempfile
from contextlib import suppress
from functools import cached_property
from pathlib import Path

#: A socket's path may have 107 bytes (103 on macOS); the bell's own name takes up to 21 of them.
LONGEST_FOLDER = 80

logger = logging.getLogger(__name__)


class Doorbell:
    """Rings and hears the bells of one ledger.

    Parameters:
      ledger: the database's address; processes with the same one hear each other.

    Listening is for one thread; :meth:`ring` and :meth:`nudge` for any.
    """

    def __init__(self, ledger: str) -> None:
        self._digest = hashlib.sha256(ledger.encode()).hexdigest()[:16]
        self._own: Path | None = None
        self._ear: socket.socket | None = None
        self._mouths: dict[int, socket.socket] = {}  #: by process: a child has one of its own

    @cached_property
    def folder(self) -> Path:
        """Where the bells hang.  Not computed earlier than needed: ``gettempdir()`` tries out a file."""
        below = Path(f"hareline-{os.getuid()}") / self._digest
        folder = Path(tempfile.gettempdir()) / below
        return folder if len(os.fsencode(folder)) <= LONGEST_FOLDER else "/tmp" / below

    def listen(self) -> None:
        """Hang up a bell of this process's own.

        Raises OSError when the temporary folder is not writable, or another user was there first.
        """
        for folder in (self.folder.parent, self.folder):
            with suppress(FileExistsError):
                folder.mkdir(mode=0o700)
            _demand_ours(folder)
            folder.chmod(0o700)
        self._own = self.folder / f"{os.getpid()}-{id(self):x}"
        self._own.unlink(missing_ok=True)
        if self._ear is not None:  # of a worker before this one, or of the process this one was forked from
            self._ear.close()
        self._ear = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._ear.setblocking(False)
        self._ear.bind(str(self._own))

    def wait(self, timeout_s: float) -> bool:
        """Wait for a ring, at most ``timeout_s``; all rings so far are taken as one."""
        assert self._ear is not None, "listen() first"
        heard, _, _ = select.select([self._ear], [], [], max(0.0, timeout_s))
        if not heard:
            return False
        try:
            while True:
                self._ear.recv(16)
        except BlockingIOError:
            return True

    def ring(self) -> None:
        """Ring every bell of this ledger, this process's own too.

        Never fails: work is looked for without a ring, too.
        """
        try:
            for folder in (self.folder.parent, self.folder):
                _demand_ours(folder)
            bells = list(os.scandir(self.folder))
        except FileNotFoundError:
            return  # nobody listens
        except OSError as error:
            _say_unheard(error)
            return
        for bell in bells:
            self._send(bell.path)

    def nudge(self) -> None:
        """Ring only this process's own bell."""
        if self._own is not None:
            self._send(str(self._own))

    def close(self) -> None:
        """Take the bell down.  Idempotent."""
        if self._own is not None:
            self._own.unlink(missing_ok=True)
            self._own = None
        for end in (self._ear, *self._mouths.values()):
            if end is not None:
                end.close()
        self._ear, self._mouths = None, {}

    def _send(self, path: str) -> None:
        try:
            self._open_mouth().sendto(b"!", path)
        except BlockingIOError:
            pass  # its ear is full of rings it has not heard yet: one more would tell it nothing
        except ConnectionRefusedError:
            _take_down(path)  # its process died without doing it
        except FileNotFoundError:
            pass  # taken down since we looked
        except OSError as error:
            _say_unheard(error)

    def _open_mouth(self) -> socket.socket:
        mouth = self._mouths.get(os.getpid())
        if mouth is None:
            made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            made.setblocking(False)  # before any other thread sees it
            mouth = self._mouths.setdefault(os.getpid(), made)
            if mouth is not made:  # another thread was faster
                made.close()
        return mouth


def _demand_ours(folder: Path) -> None:
    """In a place where everybody may write, a folder of this name may be anybody's, or lead anywhere."""
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise PermissionError(errno.EPERM, "it is not a folder of this user alone; remove it", str(folder))


def _take_down(path: str) -> None:
    with suppress(FileNotFoundError):
        if stat.S_ISSOCK(os.lstat(path).st_mode):
            os.unlink(path)


def _say_unheard(error: OSError) -> None:
    logger.warning("nobody is woken for new work, it starts when it is next looked for: %s", error)

"""Before a SQLite ledger's first use in this process: its directory, its file, its schema."""

import re
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

from errors import LedgerError, LedgerUnavailable
from ledger.revision import TABLE, newest, refuse_other
from ledger.sqlite.file import explain, open_file
from ledger.sqlite.turn import turn

_NETWORK = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "fuse.sshfs", "ceph", "fuse.glusterfs", "lustre", "afs"})

_prepared: set[Path] = set()
_lock = threading.Lock()


def prepare(path: Path) -> None:
    """Create and migrate the file, once per process: nobody runs a command before a laptop's first job.

    Thread-safe; safe between processes; to be called inside a :class:`~ledger.sqlite.forks.Guard`.
    Raises ``LedgerUnavailable`` or ``LedgerError``, naming the file.
    """
    with _lock:
        if path in _prepared and path.exists():
            return
        refuse_network_filesystem(path)
        create_parent(path)
        # A file that cannot be written, or is no database, is found out here, by name.
        try:
            first = open_file(path, "FULL")
            with closing(first):
                with turn(path):
                    first.executescript("BEGIN IMMEDIATE; COMMIT")
                current = revision_of(first)
        except sqlite3.Error as error:
            raise explain(error, path) from error
        if current is not None and current > newest():
            refuse_other(str(path), current, newest())
        if current != newest():
            from ledger.migrate import Migrations  # Alembic is slow to import, and only needed here

            Migrations(f"sqlite:///{path}").upgrade()
        _prepared.add(path)


def assume_prepared(path: Path) -> None:
    """The file was found at the revision of this code, by a connection that writes to it."""
    with _lock:
        _prepared.add(path)


def revision_of(db: sqlite3.Connection) -> str | None:
    """The file's revision; None when it was never migrated."""
    if not db.execute("SELECT count(*) FROM sqlite_master WHERE name = ?", (TABLE,)).fetchone()[0]:
        return None
    row = db.execute(f"SELECT version_num FROM {TABLE}").fetchone()
    return str(row[0]) if row else None


def create_parent(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LedgerUnavailable(
            f"the ledger {path} cannot be created: {error}; make its directory, or set DATABASE_URL to another path"
        ) from error


def refuse_network_filesystem(path: Path) -> None:
    """Raise ``LedgerError`` where SQLite's locks and shared memory are known not to work (Linux only)."""
    try:
        mounts = Path("/proc/self/mountinfo").read_text()
    except OSError:
        return
    kind = filesystem_of(path.parent.resolve(), mounts)
    if kind in _NETWORK:
        raise LedgerError(
            f"the ledger {path} is on a network filesystem ({kind}), where SQLite loses data; "
            "put it on a local disk, or use PostgreSQL (DATABASE_URL=postgresql://…)"
        )


def filesystem_of(directory: Path, mounts: str) -> str:
    """The type of the filesystem ``directory`` is on; ``mounts`` is the text of /proc/self/mountinfo."""
    deepest, kind = -1, ""
    for line in mounts.splitlines():
        left, _, right = line.partition(" - ")
        # A space in a path is written \040.
        mount = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), left.split(" ")[4])
        # Of two mounts on one directory the later one is seen.
        if directory.is_relative_to(mount) and len(mount) >= deepest:
            deepest, kind = len(mount), right.split(" ")[0]
    return kind

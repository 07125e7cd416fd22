"""One connection to a SQLite file: opened at its first use, reopened after an error or a fork."""

import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from sqlalchemy.engine import make_url

from errors import LedgerError, LedgerUnavailable, SettingsError
from ledger.sqlite.forks import Guard
from ledger.statements import statements

Road = Literal["embedded", "rabbitmq"]

BUSY_S = 30.0
_NETWORK = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "fuse.sshfs", "ceph", "fuse.glusterfs", "lustre", "afs"})


class Transaction:
    """What the functions of this package work with: statements by name, and one time for all of them."""

    __slots__ = ("_db", "_sql", "embedded", "now", "publish_after")

    def __init__(self, db: sqlite3.Connection, sql: Mapping[str, str], embedded: bool, publish_after: int) -> None:
        self._db = db
        self._sql = sql
        self.embedded = embedded
        self.publish_after = publish_after  #: microseconds until the relay may send what its producer did not
        self.now = time.time_ns() // 1000  #: the database's clock: microseconds since 1970, read inside the lock

    def run(self, name: str, *parameters: Any) -> sqlite3.Cursor:
        return self._db.execute(self._sql[name], parameters)

    def many(self, name: str, rows: Iterable[Sequence[Any]]) -> None:
        if rows:
            self._db.executemany(self._sql[name], rows)


class Connection:
    """Used by one thread at a time.  Raises ``LedgerUnavailable``, naming the file, whenever SQLite cannot go on."""

    def __init__(self, path: Path, *, road: Road, publish_after_s: float, synchronous: str) -> None:
        self._path = path
        self._embedded = road == "embedded"
        self._publish_after = int(publish_after_s * 1_000_000)
        self._synchronous = synchronous
        self._db: sqlite3.Connection | None = None
        self._guard = Guard(self._close)

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        """A transaction that holds the write lock; committed at the end, undone by any exception."""
        with self._guard:
            try:
                db = self._db or self._open()
                # IMMEDIATE always: a transaction that reads first and writes later cannot wait for
                # another writer, it fails at once with SQLITE_BUSY_SNAPSHOT.
                db.execute("BEGIN IMMEDIATE")
                yield Transaction(db, statements("sqlite"), self._embedded, self._publish_after)
                db.execute("COMMIT")
            except BaseException as error:
                self._undo()
                if isinstance(error, sqlite3.Error):
                    raise explain(error, self._path) from error
                raise

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        """A single reading statement; never waits for a writer."""
        with self._guard:
            try:
                yield Transaction(self._db or self._open(), statements("sqlite"), self._embedded, self._publish_after)
            except sqlite3.Error as error:
                self._undo()
                raise explain(error, self._path) from error

    def close(self) -> None:
        with self._guard:
            self._close()

    def _close(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            db.close()

    def _undo(self) -> None:
        # Closing rolls back, and gets rid of a connection that may be broken; opening costs well under 1 ms.
        self._close()

    def _open(self) -> sqlite3.Connection:
        db = sqlite3.connect(
            self._path, timeout=BUSY_S, isolation_level=None, check_same_thread=False, cached_statements=256
        )
        try:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute(f"PRAGMA synchronous = {self._synchronous}")
        except BaseException:
            db.close()
            raise
        self._db = db
        return db


def path_of(url: str) -> Path:
    """The file a ``sqlite:///…`` URL names; three slashes and a path, four for an absolute one."""
    database = make_url(url).database
    if not database or database == ":memory:":
        raise SettingsError(
            f"{url!r} names no file; use sqlite:///hareline.db or sqlite:////var/lib/hareline/hareline.db"
        )
    return Path(database).expanduser().absolute()


def create_parent(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LedgerUnavailable(
            f"the ledger {path} cannot be created: {error}; make its directory, or set DATABASE_URL to another path"
        ) from error


def explain(error: sqlite3.Error, path: Path) -> Exception:
    """The project's own error for SQLite's: what happened, to which file, and what to do."""
    text = str(error)
    if isinstance(error, (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.DataError, sqlite3.InterfaceError)):
        return LedgerError(f"the ledger {path} refused a statement: {text}")
    if "not a database" in text:
        return LedgerError(f"{path} is not a SQLite database; set DATABASE_URL to another path, or move that file away")
    if "malformed" in text:
        return LedgerError(
            f"the ledger {path} is damaged ({text}); restore it from a backup, or try sqlite3's .recover"
        )
    if "no such table" in text or "no such column" in text:
        return LedgerError(f"the ledger {path} lacks a part of its schema ({text}); run `hareline migrate`")
    return LedgerUnavailable(f"the ledger {path} cannot be used: {text}; {_remedy(text, path)}")


def _remedy(text: str, path: Path) -> str:
    if "locked" in text:
        return f"another process has held it for {BUSY_S:.0f} s; look for a long transaction (a database browser?)"
    if "full" in text:
        return "free some space on its disk"
    if "readonly" in text or "unable to open" in text:
        return f"this user must be able to write to it and to its directory {path.parent}"
    return "look at its disk, then try again"


def refuse_network_filesystem(path: Path) -> None:
    """Raise ``LedgerError`` where SQLite's locks and shared memory are known not to work (Linux only)."""
    try:
        mounts = Path("/proc/self/mountinfo").read_text()
    except OSError:
        return
    best, kind = -1, ""
    where = path.parent.resolve()
    for line in mounts.splitlines():
        left, _, right = line.partition(" - ")
        mount = left.split(" ")[4].encode().decode("unicode_escape")
        if where.is_relative_to(mount) and len(mount) >= best:
            best, kind = len(mount), right.split(" ")[0]
    if kind in _NETWORK:
        raise LedgerError(
            f"the ledger {path} is on a network filesystem ({kind}), where SQLite loses data; "
            "put it on a local disk, or use PostgreSQL (DATABASE_URL=postgresql://…)"
        )

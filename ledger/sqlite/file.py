"""The file itself: which one a URL names, how it is opened, and what SQLite's errors mean to whoever runs it."""

import sqlite3
import time
from pathlib import Path

from errors import LedgerError, LedgerUnavailable, SettingsError

BUSY_S = 30.0  #: how long a writer waits for its turn


def path_of(url: str) -> Path:
    """The file a ``sqlite:///…`` URL names; three slashes and a path, four for an absolute one."""
    database = url.removeprefix("sqlite:///")
    if database in ("", ":memory:", url):
        raise SettingsError(
            f"{url!r} names no file; use sqlite:///hareline.db or sqlite:////var/lib/hareline/hareline.db"
        )
    return Path(database).expanduser().absolute()


def open_file(path: Path, synchronous: str) -> sqlite3.Connection:
    """A connection that begins no transaction by itself.  Raises ``sqlite3.Error``."""
    db = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False, cached_statements=256)
    try:
        _write_ahead(db)
        db.execute(f"PRAGMA synchronous = {synchronous}")
    except BaseException:
        db.close()
        raise
    return db


def _write_ahead(db: sqlite3.Connection) -> None:
    """Of several processes that find a new file, one turns its mode; SQLite tells the others at once that it is locked,
    however long they are willing to wait."""
    deadline = time.monotonic() + BUSY_S
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
        time.sleep(0.005)


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

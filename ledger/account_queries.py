"""Who may come in."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, or_, select, update

from ledger.engine import Database
from ledger.tables import sessions, tokens, users

#: A token's last use is written down so often.
USED_EVERY = timedelta(minutes=1)


@dataclass(frozen=True)
class User:
    name: str
    role: str
    queues: tuple[str, ...]
    disabled: bool
    by_password: bool  #: false: only a trusted proxy lets them in
    created_at: datetime
    changed_at: datetime
    changed_by: str


@dataclass(frozen=True)
class Token:
    id: str
    name: str
    role: str
    queues: tuple[str, ...]
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    revoked_at: datetime | None
    used_at: datetime | None  #: to the minute


@dataclass(frozen=True)
class Session:
    user: User
    csrf: str


class AccountQueries:
    """Thread-safe; fork-safe; no I/O until the first question.  Every method raises ``LedgerUnavailable``."""

    def __init__(self, url: str) -> None:
        self._database = Database(url)

    def close(self) -> None:
        self._database.close()

    def users(self) -> list[User]:
        """By name."""
        with self._database.read() as connection:
            return [_user(row) for row in connection.execute(select(users).order_by(users.c.name))]

    def user(self, name: str) -> User | None:
        with self._database.read() as connection:
            row = connection.execute(select(users).where(users.c.name == name)).one_or_none()
            return None if row is None else _user(row)

    def tokens(self) -> list[Token]:
        """Newest first."""
        with self._database.read() as connection:
            rows = connection.execute(select(tokens).order_by(tokens.c.created_at.desc(), tokens.c.id))
            return [_token(row) for row in rows]

    def anybody(self) -> bool:
        """Whether anybody can come in."""
        with self._database.read() as connection:
            someone = select(users.c.name).where(~users.c.disabled).limit(1)
            return connection.scalar(someone) is not None or connection.scalar(select(tokens.c.id).limit(1)) is not None

    def session(self, hash: str) -> Session | None:
        """Whose it is, unless it has ended or its user is disabled."""
        with self._database.read() as connection:
            now = self._database.time(connection)
            live = (sessions.c.hash == hash, sessions.c.expires_at > now, ~users.c.disabled)
            joined = select(users, sessions.c.csrf).join_from(sessions, users, users.c.name == sessions.c.user_name)
            row = connection.execute(joined.where(*live)).one_or_none()
            return None if row is None else Session(_user(row), row.csrf)

    def token(self, hash: str) -> Token | None:
        """Whose it is, unless it has expired or was revoked.  That it was used is written down."""
        with self._database.read() as connection:
            now = self._database.time(connection)
            lasts = or_(tokens.c.expires_at.is_(None), tokens.c.expires_at > now)
            wanted = select(tokens).where(tokens.c.hash == hash, tokens.c.revoked_at.is_(None), lasts)
            row = connection.execute(wanted).one_or_none()
        if row is None:
            return None
        if row.used_at is None or row.used_at < now - USED_EVERY:
            with self._database.write() as connection:
                _used(connection, row.id, now)
        return _token(row)


def _used(connection: Connection, id: str, now: datetime) -> None:
    connection.execute(update(tokens).where(tokens.c.id == id).values(used_at=now))


def _user(row: Any) -> User:
    names = ("name", "role", "disabled", "created_at", "changed_at", "changed_by")
    shared = {name: getattr(row, name) for name in names}
    return User(**shared, queues=tuple(row.queues.split()), by_password=bool(row.password))


def _token(row: Any) -> Token:
    dates = ("created_at", "created_by", "expires_at", "revoked_at", "used_at")
    shared = {name: getattr(row, name) for name in ("id", "name", "role", *dates)}
    return Token(**shared, queues=tuple(row.queues.split()))

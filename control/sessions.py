"""Logging in and out of the console."""

import secrets
from datetime import timedelta
from typing import Any, Final, NamedTuple

from sqlalchemy import delete, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from control.passwords import LONGEST, fits
from control.tokens import hash_of
from control.transaction import Control, Transaction
from control.who import Who
from errors import NotAuthenticated, Throttled
from ledger.audit import Deed
from ledger.tables import logins, sessions, users

#: So many logins may fail before the next one has to wait: twice as long after each, up to so many seconds.
FREE: Final = {"name": 5, "address": 20}
FIRST_WAIT_S: Final = 8
LONGEST_WAIT_S: Final = {"name": 60, "address": 900}
#: Failures are forgotten after so long without another.
FORGOTTEN: Final = timedelta(hours=1)


class Session(NamedTuple):
    key: str  #: for the browser; kept nowhere
    csrf: str
    lasts_s: int


def log_in(control: Control, name: str, password: str, *, lasts_s: int, by: Who) -> Session:
    """A session for a user who knows their password.  Raises ``NotAuthenticated``, ``Throttled``.

    A try is counted before it is looked at, so many at once are no more tries; and it takes as long for a name that
    nobody has.
    """
    name = name[:LONGEST]
    keys = sorted([f"address {by.address}", f"name {name[:100]}"])
    control.run(lambda tx: _count(tx, keys), by=by)
    kept = control.run(lambda tx: _password(tx, name), by=by)
    right = fits(password, kept)
    made = Session(secrets.token_urlsafe(32), secrets.token_urlsafe(32), lasts_s)

    def verb(tx: Transaction) -> bool:
        if not right or kept != _password(tx, name):  # changed, or disabled, meanwhile
            tx.deeds.append(Deed("login", {"user": name[:100]}, 0, result="refused"))
            return False
        tx.connection.execute(delete(logins).where(logins.c.key.in_(keys)))
        tx.connection.execute(delete(sessions).where(sessions.c.expires_at < tx.now))
        tx.connection.execute(delete(logins).where(logins.c.failed_at < tx.now - FORGOTTEN))
        until = tx.now + timedelta(seconds=lasts_s)
        row = {"hash": hash_of(made.key), "user_name": name, "csrf": made.csrf, "address": by.address}
        tx.connection.execute(insert(sessions).values(**row, created_at=tx.now, expires_at=until))
        tx.deeds.append(Deed("login", {"user": name}))
        return True

    if not control.run(verb, by=by):
        raise NotAuthenticated("the name or the password is not right")
    return made


def log_out(control: Control, key: str, *, by: Who) -> None:
    """End a session.  Idempotent."""

    def verb(tx: Transaction) -> None:
        if tx.connection.execute(delete(sessions).where(sessions.c.hash == hash_of(key))).rowcount:
            tx.deeds.append(Deed("logout", {"user": by.name}))

    control.run(verb, by=by)


def _password(tx: Transaction, name: str) -> str | None:
    wanted = select(users.c.password).where(users.c.name == name, ~users.c.disabled)
    kept: str | None = tx.connection.scalar(wanted)
    return kept or None


def _count(tx: Transaction, keys: list[str]) -> None:
    """Raises ``Throttled`` while one of them has to wait; nothing is counted then."""
    for key in keys:
        new: dict[str, Any] = {"key": key, "failures": 0, "failed_at": tx.now, "until": tx.now}
        made = (sqlite if tx.sqlite else postgresql).insert(logins).values(**new)
        tx.connection.execute(made.on_conflict_do_nothing(index_elements=["key"]))
    wanted = select(logins).where(logins.c.key.in_(keys)).order_by(logins.c.key).with_for_update()
    rows = tx.connection.execute(wanted).all()
    wait = max((row.until - tx.now).total_seconds() for row in rows)
    if wait > 0:
        raise Throttled("too many logins have failed, for this name or from here", int(wait) + 1)
    for row in rows:
        kind = row.key.partition(" ")[0]
        failures = 1 if row.failed_at < tx.now - FORGOTTEN else row.failures + 1
        over = failures - FREE[kind]
        wait_s = min(FIRST_WAIT_S * 2 ** min(over, 20), LONGEST_WAIT_S[kind]) if over >= 0 else 0
        values = {"failures": failures, "failed_at": tx.now, "until": tx.now + timedelta(seconds=wait_s)}
        tx.connection.execute(update(logins).where(logins.c.key == row.key).values(**values))

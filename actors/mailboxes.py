"""Mailboxes that their owners have connected: the tokens, and how far each is read.

The tokens are sealed (``ledger/sealing.py``) where HARELINE_KEYS has a key, each bound to its mailbox;
``hareline keys rotate`` brings them under another.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import AwareDatetime, BaseModel, SecretStr
from sqlalchemy import Connection, func, inspect, select, update

from actors.database import database, put
from actors.per_process import per_process
from actors.tables import letters, mailboxes
from broker import transactional
from errors import Failure, Undecipherable
from ledger.resting import PLACES, Place
from ledger.sealing import PREFIX, KeyRing
from settings import load

#: What an envelope with tokens is bound to, besides the mailbox.
_KIND = "mailbox"

m = mailboxes.c


class Tokens(BaseModel):
    """The secrets of a mailbox; their ``repr`` shows nothing."""

    refresh: SecretStr
    access: SecretStr
    expires_at: AwareDatetime


@dataclass(frozen=True)
class Mailbox:
    """One mailbox."""

    account: str  #: its address
    user: str  #: who is told when something is wrong with it
    tokens: Tokens | None  #: None: it is not connected any more
    why: str | None  #: then, why that is
    connected_at: datetime
    refreshing_until: datetime | None  #: somebody is getting another access token, until then at the latest
    history_id: str | None  #: what came up to there was seen; None: it was never read as a whole
    full_from: str | None  #: while it is read as a whole: where its history was at the beginning
    page: str | None  #: and the token of the page that is next
    listed: int  #: and how many mails that was so far
    at: datetime  #: when all that was so, by the database's clock


@contextmanager
def together() -> Iterator[Connection]:
    """One transaction; what is sent in it becomes jobs if and only if it commits."""
    with database().write() as connection, transactional(connection):
        yield connection


def find(account: str) -> Mailbox | None:
    """A mailbox, or None.  Raises ``Failure`` when its tokens cannot be opened."""
    with database().read() as connection:
        return read(connection, account)


def read(connection: Connection, account: str, *, lock: bool = False) -> Mailbox | None:
    """The same in a transaction."""
    wanted = select(mailboxes).where(m.account == account)
    row = connection.execute(wanted.with_for_update() if lock else wanted).mappings().one_or_none()
    if row is None:
        return None
    return Mailbox(**{**row, "tokens": _opened(account, row["tokens"]), "at": database().time(connection)})


def owner(connection: Connection, account: str) -> str | None:
    """The user of a mailbox that is connected, whether or not its tokens can be opened; locked."""
    wanted = select(m.user).where(m.account == account, m.tokens.is_not(None))
    found: str | None = connection.scalar(wanted.with_for_update())
    return found


def every() -> list[dict[str, Any]]:
    """All mailboxes, with how many letters are kept of each; nothing of their tokens."""
    count = select(func.count()).where(letters.c.account == m.account).scalar_subquery()
    columns = (m.account, m.user, m.tokens.is_not(None).label("connected"), m.why, m.connected_at, m.history_id)
    wanted = select(*columns, m.full_from.is_not(None).label("reading"), m.listed, count.label("letters"))
    with database().read() as connection:
        return [dict(row) for row in connection.execute(wanted.order_by(m.account)).mappings()]


def connect(connection: Connection, account: str, user: str, tokens: Tokens) -> None:
    """Add a mailbox, or give it these tokens; what is known of it stays."""
    row = {"account": account, "user": user, "tokens": sealed(account, tokens), "why": None}
    put(connection, mailboxes, row | {"connected_at": database().time(connection), "refreshing_until": None})


def lose(connection: Connection, account: str, why: str) -> bool:
    """Forget the tokens; false when there were none."""
    gone = update(mailboxes).where(m.account == account, m.tokens.is_not(None))
    return connection.execute(gone.values(tokens=None, why=why, refreshing_until=None)).rowcount > 0


def forget(connection: Connection, account: str) -> None:
    """Remove a mailbox and its letters."""
    connection.execute(letters.delete().where(letters.c.account == account))
    connection.execute(mailboxes.delete().where(m.account == account))


def change(connection: Connection, account: str, **values: Any) -> None:
    """Note how far it is read; not one that was lost or removed meanwhile, but for that it changes nothing."""
    connection.execute(update(mailboxes).where(m.account == account).values(**values))


def saw(connection: Connection, account: str, history_id: str) -> None:
    """Note that what came up to there was seen; never less than was seen before."""
    mailbox = read(connection, account, lock=True)
    if mailbox is not None and int(history_id) > int(mailbox.history_id or -1):
        change(connection, account, history_id=history_id)


def sealed(account: str, tokens: Tokens) -> str:
    """The tokens as they are kept: in clear where there is no key."""
    plain = json.dumps(
        {
            "refresh": tokens.refresh.get_secret_value(),
            "access": tokens.access.get_secret_value(),
            "expires_at": tokens.expires_at.isoformat(),
        }
    )
    return ring().seal(plain.encode(), (_KIND, account)) if ring().ids else plain


def _opened(account: str, kept: str | None) -> Tokens | None:
    if kept is None:
        return None
    if not kept.startswith(PREFIX):
        return Tokens.model_validate_json(kept)
    try:
        return Tokens.model_validate_json(ring().open(kept, (_KIND, account)))
    except Undecipherable as error:
        raise Failure(f"the tokens of {account}: {error}", code="undecipherable") from error


def places() -> list[Place]:
    """Where envelopes rest: in the ledger, and here, once our tables are there."""
    ours = Place(mailboxes, m.tokens, _KIND, (m.account,))
    with database().read() as connection:
        return [*PLACES, ours] if inspect(connection).has_table(mailboxes.name) else [*PLACES]


@per_process
def ring() -> KeyRing:
    """This process's keys."""
    return KeyRing.of(load())

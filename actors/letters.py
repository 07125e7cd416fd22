"""Mails that were fetched, once each."""

from collections.abc import Collection
from typing import Any

from sqlalchemy import Connection, select

from actors.database import add, database
from actors.gmail import Letter
from actors.mime import parsed
from actors.tables import letters

t = letters.c


def known(connection: Connection, account: str, ids: Collection[str]) -> set[str]:
    """Those of the mails that are kept."""
    return set(connection.scalars(select(t.id).where(t.account == account, t.id.in_(ids))))


def is_kept(account: str, id: str) -> bool:
    """Whether a mail is."""
    with database().read() as connection:
        return bool(known(connection, account, [id]))


def keep(account: str, letter: Letter) -> bool:
    """Keep a mail; false when it is kept already, and then that one stays."""
    source = letter.source
    row = {
        "account": account,
        "id": letter.id,
        "thread": letter.thread_id,
        "labels": letter.label_ids,
        "received_at": letter.received_at,
        "size": len(source),
        **parsed(source).model_dump(),
    }
    with database().write() as connection:
        return add(connection, letters, row)


def find(account: str, id: str) -> dict[str, Any] | None:
    """A mail as it is kept, or None."""
    with database().read() as connection:
        row = connection.execute(select(letters).where(t.account == account, t.id == id)).mappings().one_or_none()
    return None if row is None else dict(row)

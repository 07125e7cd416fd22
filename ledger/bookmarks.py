"""How far a duty has come, locked for the transaction that takes it further."""

from sqlalchemy import Connection, select, update
from sqlalchemy.dialects import postgresql, sqlite

from ledger.tables import bookmarks


def held(connection: Connection, name: str, first: str) -> str | None:
    """The place, which nobody else moves before this transaction ends; ``first`` if there was none.

    None: somebody else is about to move it.
    """
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    new = dialect.insert(bookmarks).values(name=name, place=first)
    connection.execute(new.on_conflict_do_nothing(index_elements=["name"]))
    place: str | None = connection.scalar(
        select(bookmarks.c.place).where(bookmarks.c.name == name).with_for_update(skip_locked=True)
    )
    return place


def move(connection: Connection, name: str, place: str) -> None:
    connection.execute(update(bookmarks).where(bookmarks.c.name == name).values(place=place))

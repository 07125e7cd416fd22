"""Lists of jobs that people keep under a name."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Select, select

from ledger.tables import saved_views


@dataclass(frozen=True)
class SavedView:
    owner: str
    name: str
    query: str  #: of the address: state=failed&queue=billing
    changed_at: datetime


def listing(connection: Connection, owner: str) -> list[SavedView]:
    """Of one person, by name."""
    return _views(connection, select(saved_views).where(saved_views.c.owner == owner).order_by(saved_views.c.name))


def find(connection: Connection, owner: str, name: str) -> SavedView | None:
    wanted = select(saved_views).where(saved_views.c.owner == owner, saved_views.c.name == name)
    return next(iter(_views(connection, wanted)), None)


def _views(connection: Connection, wanted: Select[tuple[object, ...]]) -> list[SavedView]:
    return [SavedView(**row._mapping) for row in connection.execute(wanted)]

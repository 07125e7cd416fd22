"""People, what they are told, and their deadlines."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field
from sqlalchemy import select, update

from actors.database import add, database, put
from actors.events import Id, Name
from actors.tables import accounts, deadlines, notifications
from ledger.tables import now
from ledger.text import clean, clean_json

Kind = Literal["deadline", "reminder", "sync-complete", "error"]
Channel = Literal["app", "log", "email", "webhook", "slack"]


def zone_name(name: str) -> str:
    """The name, if it is a time zone's.  Raises ``ValueError``."""
    if name in available_timezones():
        return name
    raise ValueError(f"a time zone such as Europe/Paris, not {name!r}")


class Account(BaseModel):
    """Somebody who is told things."""

    model_config = ConfigDict(frozen=True)

    user: Name
    email: Annotated[str, Field(pattern=r"^[^\s<>@]+@[^\s<>@]+$")] | None = None
    webhook_url: Annotated[str, Field(pattern=r"^https?://")] | None = None
    timezone: Annotated[str, AfterValidator(zone_name)] = "UTC"
    digest: bool = False  #: a mail every morning with the notifications of the day before

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.timezone)


class Notification(BaseModel):
    """One thing that one user is told."""

    model_config = ConfigDict(frozen=True)

    id: Id  #: names it for ever: a second one of an id is the first one again
    user: Name
    message: Annotated[str, Field(min_length=1, max_length=5_000), AfterValidator(clean)]
    title: Annotated[str, Field(max_length=200), AfterValidator(clean)] = ""
    type: Kind = "reminder"
    channel: Channel = "app"
    data: Annotated[dict[str, Any], AfterValidator(clean_json)] = Field(default_factory=dict)


class Deadline(BaseModel):
    """Something of a user's that is due."""

    model_config = ConfigDict(frozen=True)

    id: Name
    user: Name
    title: Annotated[str, Field(min_length=1, max_length=200), AfterValidator(clean)]
    due_at: AwareDatetime


def register(account: Account) -> None:
    """Add an account, or give it these values."""
    with database().write() as connection:
        put(connection, accounts, account.model_dump())


def account(user: str) -> Account | None:
    """A user's account, or None."""
    with database().read() as connection:
        row = connection.execute(select(accounts).where(accounts.c.user == user)).mappings().one_or_none()
    return None if row is None else Account.model_validate(dict(row))


def digested() -> list[Account]:
    """Accounts that want a daily digest, and have an address."""
    wanted = select(accounts).where(accounts.c.digest, accounts.c.email.is_not(None)).order_by(accounts.c.user)
    with database().read() as connection:
        return [Account.model_validate(dict(row)) for row in connection.execute(wanted).mappings()]


def record(notification: Notification) -> datetime | None:
    """Keep a notification; when it was first kept, or None if it was delivered.  The first one of an id stays."""
    n = notifications.c
    with database().write() as connection:
        row = notification.model_dump() | {"created_at": database().time(connection)}
        add(connection, notifications, row)
        kept = connection.execute(select(n.created_at, n.delivered_at).where(n.id == notification.id)).one()
    return None if kept.delivered_at else kept.created_at


def delivered(id: str) -> None:
    """Note that a notification is where it was to go.  Idempotent."""
    n = notifications.c
    with database().write() as connection:
        connection.execute(update(notifications).where(n.id == id, n.delivered_at.is_(None)).values(delivered_at=now()))


def between(user: str, start: datetime, end: datetime) -> Sequence[tuple[datetime, Notification]]:
    """What a user was told from one moment (included) to another (not), oldest first."""
    n = notifications.c
    wanted = select(notifications).where(n.user == user, n.created_at >= start, n.created_at < end)
    with database().read() as connection:
        rows = connection.execute(wanted.order_by(n.created_at, n.id)).mappings().all()
    return [(row["created_at"], Notification.model_validate(dict(row))) for row in rows]


def set_deadline(deadline: Deadline) -> None:
    """Add a deadline, or move it."""
    with database().write() as connection:
        put(connection, deadlines, deadline.model_dump())


def deadline(id: str) -> Deadline | None:
    """A deadline, or None when it is met or dropped."""
    with database().read() as connection:
        row = connection.execute(select(deadlines).where(deadlines.c.id == id)).mappings().one_or_none()
    return None if row is None else Deadline.model_validate(dict(row))


def drop_deadline(id: str) -> None:
    """Remove a deadline: nobody is reminded of it any more.  Idempotent."""
    with database().write() as connection:
        connection.execute(deadlines.delete().where(deadlines.c.id == id))

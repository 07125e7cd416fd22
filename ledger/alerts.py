"""What is not well, what changed of that, and what was told of it to whom.  Nothing here changes it."""

import json
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from itertools import islice
from typing import Final

from sqlalchemy import Connection, select

from ledger.notice import Notice
from ledger.scope import EVERYTHING, Scope
from ledger.tables import alerts, deliveries, journal

#: The journal's word for a level that changed.
CHANGED: Final = "alert"
#: Of so many of the last, those of a scope are told.
LOOKED_AT: Final = 5_000


class Level(StrEnum):
    OK = "ok"
    WARNING = "warning"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        return list(Level).index(self)


@dataclass(frozen=True)
class AlertView:
    """How one thing stands that is not well, or is muted."""

    queue: str  #: empty: of the whole system
    rule: str
    level: Level
    value: float
    text: str
    since: datetime
    told: Level  #: what was told last
    told_at: datetime | None
    muted_until: datetime | None
    muted_by: str | None


@dataclass(frozen=True)
class AlertChange:
    """One thing became worse, or better."""

    at: datetime
    queue: str  #: empty: of the whole system
    rule: str
    level: Level
    was: Level


@dataclass(frozen=True)
class DeliveryView:
    """One notice to one destination."""

    id: str
    destination: str
    notice: Notice
    created_at: datetime
    due_at: datetime | None  #: when it is tried next; None: delivered, or given up
    tries: int
    delivered_at: datetime | None
    error: str  #: of the last try


def standing(connection: Connection, scope: Scope = EVERYTHING) -> list[AlertView]:
    """What is not well, or is muted; the worst first.  Within a scope, nothing of the whole system."""
    names = ("queue", "rule", "value", "text", "since", "told_at", "muted_until", "muted_by")
    found = [
        AlertView(**{name: getattr(row, name) for name in names}, level=Level(row.level), told=Level(row.told))
        for row in connection.execute(select(alerts).where(scope.clause(alerts.c.queue)))
    ]
    return sorted(found, key=lambda x: (-x.level.rank, x.queue, x.rule))


def changes(connection: Connection, limit: int, scope: Scope = EVERYTHING) -> list[AlertChange]:
    """The last changes, newest first, of those that retention has left."""
    lines = select(journal.c.at, journal.c.detail).where(journal.c.job_id.is_(None), journal.c.event == CHANGED)
    newest = lines.order_by(journal.c.at.desc(), journal.c.id.desc()).limit(LOOKED_AT if scope.limited else limit)
    told = ((row.at, json.loads(row.detail)) for row in connection.execute(newest))
    seen = (
        AlertChange(at, it["queue"], it["rule"], Level(it["level"]), Level(it["was"]))
        for at, it in told
        if scope.admits(it["queue"])
    )
    return list(islice(seen, limit))


def sent(connection: Connection, limit: int, scope: Scope = EVERYTHING) -> list[DeliveryView]:
    """What was told lately, and what is still to be, newest first."""
    names = ("id", "destination", "created_at", "due_at", "tries", "delivered_at", "error")
    newest = select(deliveries).order_by(deliveries.c.id.desc()).limit(LOOKED_AT if scope.limited else limit)
    seen = (
        DeliveryView(**{name: getattr(row, name) for name in names}, notice=notice)
        for row in connection.execute(newest)
        if scope.admits((notice := Notice.read(row.body)).queue)
    )
    return list(islice(seen, limit))

"""One verb, one transaction."""

import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import Any, Literal, TypeVar

from sqlalchemy import Connection, insert
from sqlalchemy.exc import DBAPIError

from control.who import By, Who
from ledger import audit, feed
from ledger.audit import Deed
from ledger.engine import Database
from ledger.scope import Scope
from ledger.states import Event
from ledger.tables import journal

T = TypeVar("T")

_TRIES = 8
#: deadlock_detected, serialization_failure; and unique_violation, as when two put down the first row of something at
#: once: whoever is called again finds the other's row, and changes that.
_LOST = frozenset({"40P01", "40001", "23505"})


class Transaction:
    """What a verb works with: the connection, the time on the database's clock, and who asked."""

    def __init__(self, connection: Connection, now: datetime, by: By, *, embedded: bool, sqlite: bool) -> None:
        self.connection = connection
        self.now = now
        self.who = by
        self.by = str(by)  #: for the journal
        self.embedded = embedded
        self.sqlite = sqlite
        self.deeds: list[Deed] = []  #: for the audit trail, besides what is noted
        self._noted: list[tuple[str | None, str, Mapping[str, Any]]] = []

    def note(self, job: str | None, event: Event | str, detail: Mapping[str, Any], *, deed: bool = True) -> None:
        """A line in the journal, and in the audit trail.  Verbs that are no change of state have words of their own.

        Parameters:
          deed: false: nobody did it, so it does not belong into the audit trail.
        """
        if deed:
            self._noted.append((job, str(event), detail))
        text = json.dumps(detail, default=str) if detail else ""
        told = {"tx": self._number} if event in feed.TOLD else {}
        self.connection.execute(
            insert(journal).values(job_id=job, at=self.now, event=str(event), actor=self.by, detail=text, **told)
        )

    def note_jobs(self, event: Event | str, told: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        """The same line for many jobs, as (job, detail)."""
        self._noted += [(job, str(event), detail) for job, detail in told]
        line = insert(journal)
        if told and event in feed.TOLD:
            line = line.values(tx=self._number)
        rows = [
            {"job_id": job, "at": self.now, "event": str(event), "actor": self.by}
            | {"detail": json.dumps(detail, default=str) if detail else ""}
            for job, detail in told
        ]
        if rows:
            self.connection.execute(line, rows)

    @cached_property
    def _number(self) -> Any:
        """Its place in the feed of events."""
        return feed.number(self.connection)

    def note_many(self, told: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        """Lines without a job, as (event, detail)."""
        self._noted += [(None, event, detail) for event, detail in told]
        rows = [
            {"at": self.now, "event": event, "actor": self.by, "detail": json.dumps(detail, default=str)}
            for event, detail in told
        ]
        if rows:
            self.connection.execute(insert(journal), rows)

    @cached_property
    def scope(self) -> Scope:
        """The queues that whoever asks may see and touch."""
        return Scope(self.who.queues if isinstance(self.who, Who) else ())

    def conclude(self) -> None:
        """Put down in the audit trail what was done: last, as what it locks comes after all other locks."""
        by = self.who if str(self.who) == self.by else self.by  # a verb may be done in another's name
        audit.append(self.connection, [*audit.of_notes(by, self._noted), *self.deeds], by, self.now)


class Control:
    """The ledger the verbs work on.  Creating one does no I/O; thread-safe; fork-safe.

    Parameters:
      road: who serves waiting jobs; it decides whether a ticket is ready to be taken or left for the relay.
    """

    def __init__(self, url: str, road: Literal["embedded", "rabbitmq"]) -> None:
        self._database = Database(url)
        self._embedded = road == "embedded"

    def run(self, verb: Callable[[Transaction], T], *, by: By) -> T:
        """What ``verb`` returns, committed.  It is called again when it lost a deadlock, or a race for a new row.

        Raises ``LedgerUnavailable``; nothing was changed then, unless the connection broke during the commit: that
        nobody can know.
        """

        def once() -> T:
            with self._database.write() as connection:
                now = self._database.time(connection)
                sqlite = self._database.sqlite
                tx = Transaction(connection, now, by, embedded=self._embedded, sqlite=sqlite)
                done = verb(tx)
                tx.conclude()
                return done

        return once() if self._database.joins else in_turn(once)

    def close(self) -> None:
        """Close idle connections.  Idempotent."""
        self._database.close()


def in_turn(once: Callable[[], T]) -> T:
    """What ``once`` returns, a transaction as a whole.  It is called again when it lost a race."""
    for attempt in range(_TRIES):
        try:
            return once()
        except Exception as error:
            if attempt == _TRIES - 1 or not _lost(error.__cause__):
                raise
            time.sleep(random.uniform(0.001, 0.01) * 2**attempt)  # whoever won has to finish first
    raise AssertionError("unreachable")


def _lost(error: BaseException | None) -> bool:
    of_driver = error.orig if isinstance(error, DBAPIError) else error
    return getattr(of_driver, "sqlstate", None) in _LOST

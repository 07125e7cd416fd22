"""What the handlers work with: opened once per process, closed with it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from typing import Annotated, TypeVar

from fastapi import Depends, Request

from broker import Broker
from control import Control
from control.road import Road
from control.transaction import Transaction
from control.watch import LedgerWatch
from control.who import By
from dashboard.security import Principal
from embedded.doorbell import Doorbell
from ledger import Road as Carrier
from ledger import open_ledger
from ledger.account_queries import AccountQueries
from ledger.audit_queries import AuditQueries
from ledger.ledger import Session
from ledger.queries import Queries
from ledger.repeats import Repeats
from ledger.schedule_queries import ScheduleQueries
from settings import Settings

T = TypeVar("T")


class RingingControl(Control):
    """Tells the workers of this machine after every verb, so that what may start does so at once."""

    def __init__(self, url: str, road: Carrier, bell: Doorbell | None) -> None:
        super().__init__(url, road)
        self._bell = bell

    def run(self, verb: Callable[[Transaction], T], *, by: By) -> T:
        done = super().run(verb, by=by)
        self.ring()
        return done

    def ring(self) -> None:
        if self._bell is not None:
            self._bell.ring()


class Services:
    """Thread-safe.  Creating one does no I/O: connections open at the first question.

    Parameters:
      broker: whose actors may be sent to.
    """

    def __init__(self, settings: Settings, broker: Broker) -> None:
        self.settings = settings
        self.broker = broker
        carrier: Carrier = "rabbitmq" if settings.broker_url else "embedded"
        self._ledger = open_ledger(settings.database_url, road=carrier, publish_after_s=0.0)
        self._bell = None if settings.broker_url else Doorbell(self._ledger.url)
        self.queries = Queries(settings.database_url)
        self.repeats = Repeats(settings.database_url)
        self.schedules = ScheduleQueries(settings.database_url)
        self.accounts = AccountQueries(settings.database_url)
        self.audit = AuditQueries(settings.database_url)
        self.control = RingingControl(settings.database_url, carrier, self._bell)
        #: RabbitMQ, as of the last look; None: the ledger carries the jobs itself.
        self.road = (
            Road(settings, settings.broker_url, self.queries, lambda: sorted(broker.get_declared_queues()))
            if settings.broker_url
            else None
        )

        self.watch: LedgerWatch | None = None  #: of a process with metrics, once it is started

    def check_schema(self) -> None:
        """Raise ``SchemaMismatch`` unless the database is at the revision of this code."""
        self._ledger.check()

    def for_(self, asks: Principal) -> "Services":
        """The same, of which somebody who is confined to some queues sees nothing of others.

        Of the audit trail they see what they did themselves.
        """
        mine = copy(self)
        mine.queries = self.queries.within(asks.scope)
        mine.audit = self.audit.done_by(asks.name, asks.token)
        return mine

    def start(self) -> None:
        """Begin to look at what is looked at again and again.  Idempotent; returns at once."""
        if self.road is not None:
            self.road.start()
        if self.broker.metering is not None and self.watch is None:
            self.broker.metering.counting.start("console")
            self.watch = LedgerWatch(self._ledger, self.settings, self.broker.metering.meter)
            self.watch.start()

    @contextmanager
    def session(self) -> Iterator[Session]:
        """To change flows.  The workers are told at the end."""
        opened = self._ledger.session("hareline console")
        try:
            yield opened
        finally:
            opened.close()
        self.ring()

    def ring(self) -> None:
        """Tell the workers of this machine that there may be something to do."""
        self.control.ring()

    def close(self) -> None:
        """Close every connection.  Idempotent."""
        if self.road is not None:
            self.road.stop()
        if self.broker.metering is not None and self.watch is not None:
            self.watch.stop()
            self.broker.metering.counting.stop()
        self.queries.close()
        self.schedules.close()
        self.audit.close()
        self.accounts.close()
        self.repeats.close()
        self.control.close()
        if self._bell is not None:
            self._bell.close()
        self.broker.close()


def services(request: Request) -> Services:
    """Those of this application, as far as whoever asks may see and touch the ledger."""
    found: Services = request.app.state.services
    asks = request.scope.get("state", {}).get("principal")
    return found.for_(asks) if isinstance(asks, Principal) and asks.scope.limited else found


Opened = Annotated[Services, Depends(services)]

"""What the handlers work with: opened once per process, closed with it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, TypeVar

from fastapi import Depends, Request

from broker import Broker
from control import Control
from control.transaction import Transaction
from control.who import By
from embedded.doorbell import Doorbell
from ledger import Road, open_ledger
from ledger.ledger import Session
from ledger.queries import Queries
from ledger.schedule_queries import ScheduleQueries
from settings import Settings

T = TypeVar("T")


class RingingControl(Control):
    """Tells the workers of this machine after every verb, so that what may start does so at once."""

    def __init__(self, url: str, road: Road, bell: Doorbell | None) -> None:
        super().__init__(url, road)
        self._bell = bell

    def run(self, verb: Callable[[Transaction], T], *, by: By) -> T:
        done = super().run(verb, by=by)
        if self._bell is not None:
            self._bell.ring()
        return done


class Services:
    """Thread-safe.  Creating one does no I/O: connections open at the first question.

    Parameters:
      broker: whose actors may be sent to.
    """

    def __init__(self, settings: Settings, broker: Broker) -> None:
        self.settings = settings
        self.broker = broker
        self.road: Road = "rabbitmq" if settings.broker_url else "embedded"
        self._ledger = open_ledger(settings.database_url, road=self.road, publish_after_s=0.0)
        self._bell = None if settings.broker_url else Doorbell(self._ledger.url)
        self.queries = Queries(settings.database_url)
        self.schedules = ScheduleQueries(settings.database_url)
        self.control: Control = RingingControl(settings.database_url, self.road, self._bell)

    @contextmanager
    def session(self) -> Iterator[Session]:
        """To change flows.  The workers are told at the end."""
        opened = self._ledger.session("hareline console")
        try:
            yield opened
        finally:
            opened.close()
        if self._bell is not None:
            self._bell.ring()

    def close(self) -> None:
        """Close every connection.  Idempotent."""
        self.queries.close()
        self.schedules.close()
        self.control.close()
        self.broker.close()


def services(request: Request) -> Services:
    """Those of this application."""
    found: Services = request.app.state.services
    return found


Opened = Annotated[Services, Depends(services)]

"""The ledger, opened for the length of one command.

What needs SQLAlchemy is imported where it is used, here and in the commands: `hareline worker` and `hareline --help`
start in half the time without it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from embedded.doorbell import Doorbell
from ledger import Road, open_ledger
from settings import Settings, load

if TYPE_CHECKING:
    from control import Control
    from ledger.ledger import Session
    from ledger.queries import Queries
    from ledger.schedule_queries import ScheduleQueries


def road_of(settings: Settings) -> Road:
    return "rabbitmq" if settings.broker_url else "embedded"


@contextmanager
def queries(settings: Settings | None = None) -> Iterator["Queries"]:
    """To ask the ledger."""
    from ledger.queries import Queries
    from ledger.redact import hide

    settings = settings or load()
    hide(settings.redact_keys)
    opened = Queries(settings.database_url)
    try:
        yield opened
    finally:
        opened.close()


@contextmanager
def session() -> Iterator["Session"]:
    """To change flows.  The workers are told at the end."""
    settings = load()
    ledger = open_ledger(settings.database_url, road=road_of(settings), publish_after_s=0.0)
    opened = ledger.session("hareline cli")

    try:
        yield opened
    finally:
        opened.close()
    if not settings.broker_url:
        Doorbell(ledger.url).ring()


@contextmanager
def schedule_queries() -> Iterator["ScheduleQueries"]:
    """To ask the ledger for schedules."""
    from ledger.schedule_queries import ScheduleQueries

    opened = ScheduleQueries(load().database_url)
    try:
        yield opened
    finally:
        opened.close()


@contextmanager
def control() -> Iterator["Control"]:
    """To change jobs and queues.  The workers are told at the end, so that what may start does so at once."""
    from control import Control

    settings = load()
    opened = Control(settings.database_url, road_of(settings))
    try:
        yield opened
    finally:
        opened.close()
    if not settings.broker_url:
        Doorbell(open_ledger(settings.database_url, road="embedded").url).ring()

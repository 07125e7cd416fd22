"""The ledger, opened for the length of one command."""

from collections.abc import Iterator
from contextlib import contextmanager

from control import Control
from embedded.doorbell import Doorbell
from ledger import Road, open_ledger
from ledger.queries import Queries
from settings import Settings, load


def road_of(settings: Settings) -> Road:
    return "rabbitmq" if settings.broker_url else "embedded"


@contextmanager
def queries(settings: Settings | None = None) -> Iterator[Queries]:
    """To ask the ledger."""
    opened = Queries((settings or load()).database_url)
    try:
        yield opened
    finally:
        opened.close()


@contextmanager
def control() -> Iterator[Control]:
    """To change jobs and queues.  The workers are told at the end, so that what may start does so at once."""
    settings = load()
    opened = Control(settings.database_url, road_of(settings))
    try:
        yield opened
    finally:
        opened.close()
    if not settings.broker_url:
        Doorbell(open_ledger(settings.database_url, road="embedded").url).ring()

"""The ledger, opened for the length of one command."""

from collections.abc import Iterator
from contextlib import contextmanager

from control import Control
from embedded.doorbell import Doorbell
from ledger import open_ledger
from ledger.queries import Queries
from settings import Settings, load


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
    opened = Control(settings.database_url, "rabbitmq" if settings.broker_url else "embedded")
    try:
        yield opened
    finally:
        opened.close()
    if not settings.broker_url:
        Doorbell(open_ledger(settings.database_url, road="embedded").url).ring()

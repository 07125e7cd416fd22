"""The actors of the acceptance tests, and functions that listen to what happens to them."""

import os

from middleware.events import JobEvent, on
from tests.acceptance.app import *  # noqa: F403
from tests.acceptance.app import broker, fail, note

__all__ = ["broker"]

TOLD = os.environ.get("TOLD", "")


@on("finished", "retrying")
def tell(event: JobEvent) -> None:
    note(TOLD, f"{event.event} {event.actor} {event.error_type} {event.reason} {event.has_result}")


@on("started", actor=fail, queue="work")
def tell_of_starts(event: JobEvent) -> None:
    note(TOLD, f"{event.event} {event.actor} {event.attempt}")


@on("completed")
def stumble(event: JobEvent) -> None:
    raise RuntimeError("a listener's own trouble")

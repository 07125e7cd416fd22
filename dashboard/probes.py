"""For whoever runs this process: is it alive, and can it do its work?

Nobody logs in for that, so the answers say no more than that; what is wrong is in the log, when it changes.
"""

import threading
import time
from collections.abc import Callable, Mapping
from typing import Annotated, Final, Literal

import structlog
from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import PlainTextResponse

from dashboard.security import everybody
from dashboard.services import Services
from errors import BrokerError, HarelineError

log = structlog.get_logger(__name__)

#: However many ask, it is looked so often, in seconds.
LOOK_S: Final = 1.0

PROBED: Final = ["GET", "HEAD"]

Part = Literal["database", "migrations", "broker"]

router = APIRouter(include_in_schema=False, dependencies=[Depends(everybody)])


class Readiness:
    """What of this process cannot be used now.  Thread-safe; creating one does no I/O."""

    def __init__(self, checks: Mapping[Part, Callable[[], object]]) -> None:
        self._checks = checks
        self._lock = threading.Lock()
        self._looked = -LOOK_S
        self._failing: Mapping[Part, str] = dict.fromkeys(checks, "nobody has looked yet")

    def failing(self) -> Mapping[Part, str]:
        """By part, why: as of a second ago, or of the last look while another one is under way."""
        if self._lock.acquire(blocking=False):  # a database that does not answer must not take all threads
            try:
                if time.monotonic() - self._looked >= LOOK_S:
                    self._look()
            finally:
                self._lock.release()
        return self._failing

    def _look(self) -> None:
        found: dict[Part, str] = {part: why for part, check in self._checks.items() if (why := _why(check))}
        if found.keys() != self._failing.keys():
            log.warning("console.not_ready", **found) if found else log.info("console.ready")
        self._failing, self._looked = found, time.monotonic()


def readiness_of(opened: Services) -> Readiness:
    """Of the console: the ledger is there, at the schema of this code, and RabbitMQ, if there is one."""
    return Readiness(
        {"database": opened.queries.database_time, "migrations": opened.check_schema, "broker": lambda: _broker(opened)}
    )


@router.api_route("/livez", methods=PROBED)
async def livez() -> PlainTextResponse:
    """This process answers."""
    return PlainTextResponse("ok")


@router.api_route("/readyz", methods=PROBED)
def readyz(
    request: Request,
    exclude: Annotated[list[Part], Query(description="What is not looked at.")] = [],  # noqa: B006
) -> PlainTextResponse:
    """It can do its work."""
    readiness: Readiness = request.app.state.readiness
    fails = readiness.failing().keys() - set(exclude)
    return PlainTextResponse("unavailable", 503) if fails else PlainTextResponse("ok")


def _why(check: Callable[[], object]) -> str:
    """Empty: nothing is wrong."""
    try:
        check()
    except HarelineError as error:
        return str(error)
    return ""


def _broker(opened: Services) -> None:
    if opened.road is not None and not (road := opened.road.state()).known:
        raise BrokerError(road.why)

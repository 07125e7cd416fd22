"""The first page: whether something is wrong, and where."""

from dataclasses import replace

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from dashboard.api import shown
from dashboard.pages.periods import PERIODS, period
from dashboard.pages.reading import asked
from dashboard.pages.rendering import page
from dashboard.security import allow, principal
from dashboard.services import Opened
from ledger.alerts import Level

router = APIRouter()


@router.get("/", dependencies=[Depends(allow("get_overview"))])
def overview(request: Request, opened: Opened, window: str = "") -> Response:
    queries = asked(request, opened)
    asks = principal(request)
    found = queries.overview()
    found = replace(found, failures=[shown.group(group, asks) for group in found.failures])
    chosen = period(window, "1h")
    length, parts = PERIODS[chosen]
    series = found.series if chosen == "1h" else queries.series(since=found.at - length, until=found.at, points=parts)
    return page(
        request,
        "overview.html",
        title="Overview",
        topics="jobs,queues,workers",
        now=found.at,
        found=found,
        ended=[(x.at, (x.completed, x.failed, x.retried)) for x in series.points],
        took=[(x.at, (x.run.p50, x.run.p95, x.run.p99) if x.run.count else (None,) * 3) for x in series.points],
        alerts=[x for x in queries.alerts() if x.level is not Level.OK],
        window=chosen,
        windows=list(PERIODS),
        road=opened.road.state(asks.scope) if opened.road else None,
    )

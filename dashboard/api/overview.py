"""The whole at a glance, and over time."""

from dataclasses import replace
from typing import Annotated, Literal

from fastapi import Query

from dashboard.api import shown
from dashboard.api.models import Asks, Name, When
from dashboard.api.router import Routes
from dashboard.services import Opened
from ledger.overview import Overview
from ledger.tally import Performance, Series

router = Routes(tags=["overview"])

Since = Annotated[When | None, Query(description="From then on.")]
Until = Annotated[When | None, Query(description="Until then; now, if not given.")]


@router.get("/overview")
def get_overview(opened: Opened, asks: Asks) -> Overview:
    """Show how much there is in each state, how fast it goes, what fails, and who is there."""
    found = opened.queries.overview()
    return replace(found, failures=[shown.group(group, asks) for group in found.failures])


@router.get("/metrics/series")
def get_series(
    opened: Opened,
    since: Since = None,
    until: Until = None,
    points: Annotated[int, Query(ge=1, le=1000, description="Parts of the window, at most.")] = 120,
    queue: Annotated[Name | None, Query(description="Of this queue.")] = None,
    actor: Annotated[Name | None, Query(description="Of this actor.")] = None,
) -> Series:
    """Show attempts over time: how they ended, how long they waited and ran.  Of the last hour, if nothing is given."""
    return opened.queries.series(since=since, until=until, points=points, queue=queue, actor=actor)


@router.get("/metrics/performance")
def get_performance(
    opened: Opened,
    by: Annotated[Literal["actor", "queue"], Query(description="What each line is of.")] = "actor",
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="At most so many.")] = 200,
) -> list[Performance]:
    """Show the success rate and the durations of each job type, or queue.  Of the last day, if nothing is given."""
    return opened.queries.performance(by=by, since=since, until=until, limit=limit)

"""The feed: what happened to jobs, for programs that must miss nothing; and who follows it by a name."""

from typing import Annotated

from fastapi import Query
from pydantic import BaseModel, Field

from control import followers as verbs
from control.feed import Feed
from control.followers import Follower, Overview
from dashboard.api import shown
from dashboard.api.models import Asks, Input, Name
from dashboard.api.router import Routes, may
from dashboard.security import By
from dashboard.services import Opened
from errors import IllegalTransition, NotFound, nearest
from ledger.events import JobEvent

router = Routes(tags=["feed"])


class Events(BaseModel):
    """A stretch of the feed."""

    items: list[JobEvent]
    after: str = Field(description="Where to go on: `after` of the next question, at once or later.")
    full: bool = Field(description="There may be more already.")


@router.get("/feed", responses=may(409, 410))
def list_events(
    opened: Opened,
    asks: Asks,
    by: By,
    after: Annotated[Name | None, Query(description="Behind this cursor, or `oldest`; none: from now on.")] = None,
    event: Annotated[list[Name] | None, Query(description="Only these: completed, dead, …")] = None,
    actor: Annotated[Name | None, Query(description="Only of this actor.")] = None,
    queue: Annotated[Name | None, Query(description="Only of this queue.")] = None,
) -> Events:
    """What happened to jobs behind a cursor, in order, each at least once.

    While it is off, the first question of who may let followers go on elsewhere turns it on, for the whole ledger;
    others are told that it is off.
    """
    url, scope = opened.settings.database_url, opened.queries.scope
    with Feed(url, after=after, names=event or None, actor=actor, queue=queue, scope=scope, begins=False) as feed:
        try:
            items, full = feed.page()
        except IllegalTransition:
            if not asks.may("seek_follower"):
                raise
            verbs.on(opened.control, by=by)
            items, full = feed.page()
        return Events(items=[shown.event(item, asks) for item in items], after=feed.cursor, full=full)


class Place(Input):
    to: Name = Field(description="A cursor, `oldest`, or `now`.")


class Moved(BaseModel):
    name: str
    cursor: str


class Forgotten(BaseModel):
    name: str


class Stopped(BaseModel):
    kept: bool


@router.get("/feed/followers")
def list_followers(opened: Opened) -> Overview:
    """List those who follow the feed by a name, and listeners that failed lately."""
    return verbs.overview(opened.settings.database_url)


@router.post("/feed/followers/{name}/seek", responses=may(410))
def seek_follower(opened: Opened, by: By, name: Name, given: Place) -> Moved:
    """Let a follower go on elsewhere, from its next start."""
    return Moved(name=name, cursor=verbs.seek(opened.control, name, given.to, by=by))


@router.delete("/feed/followers/{name}")
def forget_follower(opened: Opened, by: By, name: Name) -> Forgotten:
    """Forget where a follower is."""
    if not verbs.forget(opened.control, name, by=by):
        known: list[Follower] = verbs.overview(opened.settings.database_url).followers
        raise NotFound(f"nobody follows by the name {name!r}; {nearest(name, [x.name for x in known])}")
    return Forgotten(name=name)


@router.post("/feed/stop")
def stop_feed(opened: Opened, by: By) -> Stopped:
    """Write nothing for the feed any more, until somebody follows it again."""
    verbs.off(opened.control, by=by)
    return Stopped(kept=False)

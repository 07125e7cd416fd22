"""Schedules: what is sent again and again."""

from datetime import datetime
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from fastapi import Query
from pydantic import AwareDatetime, BaseModel, Field

from broker import deeds
from control import schedules as verbs
from dashboard.api.models import Input, Limit, Name
from dashboard.api.router import Routes
from dashboard.security import By
from dashboard.sending import acting
from dashboard.services import Opened, Services
from errors import BadSchedule, ScheduleNotFound
from ledger import schedules as kept
from ledger.schedule_queries import ScheduleView, TickView
from ledger.schedules.schedule import Missed, Overlap
from ledger.schedules.timetable import Dst
from ledger.schedules.words import words

router = Routes(tags=["schedules"])


class Schedule(BaseModel):
    """One schedule as it is kept."""

    key: str
    source: str = Field(description="code or data")
    actor: str
    state: str = Field(description="active, paused, ended or left out")
    words: str = Field(description="When it fires, in words.")
    when: str | None = Field(description="null when what is kept cannot be read any more.")
    tz: str | None
    next_at: datetime | None
    paused_at: datetime | None
    paused_by: str | None
    left_out: str = Field(description="Why the code does not want it now.")
    changed_at: datetime
    changed_by: str
    last: TickView | None
    failures: int = Field(description="Jobs in a row that failed.")
    troubles: list[str] = Field(description="Why it is not healthy.")

    @classmethod
    def of(cls, view: ScheduleView) -> "Schedule":
        taken = cls.model_fields.keys() - {"when", "tz", "troubles"}
        written = view.schedule
        return cls(
            **{name: getattr(view, name) for name in taken},
            when=written.when if written else None,
            tz=written.timetable.tz if written else None,
            troubles=list(view.troubles),
        )


class Plan(Input):
    """What a schedule is to be; for what each part does, see `hareline schedules add --help`."""

    actor: Name
    when: Name = Field(examples=["every 1h30m", "0 3 * * *"])
    tz: Name = Field(default="UTC", description="The time zone the cron fields are in.")
    args: list[Any] = Field(default=[])
    kwargs: dict[str, Any] = Field(default={})
    options: dict[str, Any] = Field(default={}, description="Of the message.")
    start: AwareDatetime | None = Field(default=None, description="Nothing fires before.")
    end: AwareDatetime | None = Field(default=None, description="Nothing fires after.")
    jitter_s: float = Field(default=0.0, ge=0, description="Each tick up to so much later.")
    dst: Dst = "once"
    missed: Missed = Missed.LATEST
    within_s: float = Field(default=3600.0, ge=0, description="How late a tick may still be sent.")
    most: int = Field(default=10, ge=1, description="Of missed ticks, at most so many at once.")
    overlap: Overlap = Overlap.ALLOW


class Put(BaseModel):
    key: str
    change: verbs.Change
    words: str = Field(description="When it fires, in words.")


class Fire(BaseModel):
    local: datetime = Field(description="In the schedule's time zone.")
    utc: datetime


class Preview(BaseModel):
    """When something fires next."""

    words: str
    tz: str
    fires: list[Fire]


class ScheduleState(BaseModel):
    key: str
    state: str


class Run(BaseModel):
    key: str
    job: str | None = Field(description="null: a job like that is there already.")


@router.get("/schedules")
def list_schedules(
    opened: Opened, unhealthy: Annotated[bool, Query(description="Only those with something to mend.")] = False
) -> list[Schedule]:
    """List the schedules, those the code does not declare any more too."""
    return [Schedule.of(view) for view in opened.schedules.all() if view.troubles or not unhealthy]


@router.get("/schedules/{key}")
def get_schedule(opened: Opened, key: Name) -> Schedule:
    """Show one schedule."""
    return Schedule.of(known(opened, key))


@router.get("/schedules/{key}/ticks")
def list_ticks(opened: Opened, key: Name, limit: Limit = 50) -> list[TickView]:
    """List its last ticks, newest first: how late each was, and what became of its job."""
    known(opened, key)
    return opened.schedules.history(key, limit)


@router.put("/schedules/{key}")
def put_schedule(opened: Opened, by: By, key: Name, given: Plan) -> Put:
    """Add a schedule, or change one that was added at runtime.  Idempotent.

    Only of an actor to which whoever asks may send.
    """
    schedule = kept.Schedule(key, **{**dict(given), "args": tuple(given.args)})
    with acting(opened, by):
        done = verbs.put(opened.control, [schedule], judge=opened.broker, by=by)
    return Put(key=key, change=done[key], words=words(schedule.timetable))


@router.get("/schedules/{key}/preview")
def preview_schedule(opened: Opened, key: Name, count: Annotated[int, Query(ge=1, le=1000)] = 5) -> Preview:
    """Show when a schedule fires next: in words, in its own time and in UTC."""
    view = known(opened, key)
    if view.schedule is None:
        raise BadSchedule(f"what is kept of {key!r} cannot be read; remove it and add it anew")
    timetable = view.schedule.timetable
    zone = ZoneInfo(timetable.tz)
    times = timetable.preview(opened.schedules.time(), count)
    fires = [Fire(local=at.astimezone(zone), utc=at) for at in times]
    return Preview(words=words(timetable), tz=timetable.tz, fires=fires)


@router.post("/schedules/{key}/pause")
def pause_schedule(opened: Opened, by: By, key: Name) -> ScheduleState:
    """Send nothing of it any more, until it is resumed."""
    verbs.pause(opened.control, key, by=by)
    return ScheduleState(key=key, state="paused")


@router.post("/schedules/{key}/resume")
def resume_schedule(opened: Opened, by: By, key: Name) -> ScheduleState:
    """Let it go on with its next tick."""
    verbs.resume(opened.control, key, by=by)
    return ScheduleState(key=key, state="active")


@router.post("/schedules/{key}/run")
def run_schedule(opened: Opened, by: By, key: Name) -> Run:
    """Send its message now, besides its ticks; also of one that is paused."""
    view = known(opened, key)
    if view.schedule is None:
        raise BadSchedule(f"what is kept of {key!r} cannot be read; remove it and add it anew")
    with acting(opened, by):
        return Run(key=key, job=deeds.run_schedule(opened.broker, opened.control, view.schedule, by=by))


@router.delete("/schedules/{key}")
def remove_schedule(opened: Opened, by: By, key: Name) -> ScheduleState:
    """Forget a schedule and its ticks; its jobs stay.  One that the code declares can only be paused."""
    verbs.remove(opened.control, key, by=by)
    return ScheduleState(key=key, state="removed")


def known(opened: Services, key: str) -> ScheduleView:
    """Raises ``ScheduleNotFound``."""
    view = opened.schedules.one(key)
    if view is None:
        raise ScheduleNotFound(f"there is no schedule {key!r}; the list of schedules has those there are")
    return view

"""Schedules: what is sent again and again."""

from datetime import datetime
from typing import Annotated

from fastapi import Query
from pydantic import BaseModel, Field

from broker import catalogue
from control import schedules as verbs
from dashboard.api.models import Limit, Name
from dashboard.api.router import Routes
from dashboard.security import By
from dashboard.services import Opened, Services
from errors import BadSchedule, ScheduleNotFound
from ledger.schedule_queries import ScheduleView, TickView

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
        kept = view.schedule
        return cls(
            **{name: getattr(view, name) for name in taken},
            when=kept.when if kept else None,
            tz=kept.timetable.tz if kept else None,
            troubles=list(view.troubles),
        )


class State(BaseModel):
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


@router.post("/schedules/{key}/pause")
def pause_schedule(opened: Opened, by: By, key: Name) -> State:
    """Send nothing of it any more, until it is resumed."""
    verbs.pause(opened.control, key, by=by)
    return State(key=key, state="paused")


@router.post("/schedules/{key}/resume")
def resume_schedule(opened: Opened, by: By, key: Name) -> State:
    """Let it go on with its next tick."""
    verbs.resume(opened.control, key, by=by)
    return State(key=key, state="active")


@router.post("/schedules/{key}/run")
def run_schedule(opened: Opened, by: By, key: Name) -> Run:
    """Send its message now, besides its ticks; also of one that is paused."""
    view = known(opened, key)
    if view.schedule is None:
        raise BadSchedule(f"what is kept of {key!r} cannot be read; remove it and add it anew")
    job = catalogue.run_schedule(opened.broker, opened.queries, view.schedule, opened.schedules.time())
    if job is not None:
        verbs.note_run(opened.control, key, job.id, by=by)
    return Run(key=key, job=job.id if job is not None else None)


@router.delete("/schedules/{key}")
def remove_schedule(opened: Opened, by: By, key: Name) -> State:
    """Forget a schedule and its ticks; its jobs stay.  One that the code declares can only be paused."""
    verbs.remove(opened.control, key, by=by)
    return State(key=key, state="removed")


def known(opened: Services, key: str) -> ScheduleView:
    """Raises ``ScheduleNotFound``."""
    view = opened.schedules.one(key)
    if view is None:
        raise ScheduleNotFound(f"there is no schedule {key!r}; the list of schedules has those there are")
    return view

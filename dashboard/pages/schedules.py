"""Schedules: when each fires next, what became of its last ticks, and whether it is well."""

import json
from typing import Final
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from broker import deeds
from control import schedules as verbs
from dashboard.pages.forms import Act, Verb, offer, offered
from dashboard.pages.reading import asked
from dashboard.pages.rendering import page
from dashboard.security import allow
from dashboard.sending import acting
from dashboard.services import Opened
from errors import BadSchedule, ScheduleNotFound
from ledger.redact import redacted
from ledger.schedule_queries import ScheduleView

router = APIRouter()

_FIRES: Final = 5
_TICKS: Final = 60


def _pause(act: Act) -> str:
    verbs.pause(act.services.control, act.key, by=act.by)
    return f"{act.key} is paused: nothing of it is sent until it is resumed"


def _resume(act: Act) -> str:
    verbs.resume(act.services.control, act.key, by=act.by)
    return f"{act.key} goes on with its next tick"


def _remove(act: Act) -> str:
    verbs.remove(act.services.control, act.key, by=act.by)
    act.to = "/schedules"
    return f"{act.key} is forgotten, with the history of its ticks; its jobs stay"


def _run(act: Act) -> str:
    opened = act.services
    row = opened.schedules.one(act.key)
    if row is None:
        raise ScheduleNotFound(f"there is no schedule {act.key!r}")
    if row.schedule is None:
        raise BadSchedule(f"what is kept of {act.key!r} cannot be read; remove it and add it anew")
    with acting(opened, act.by):
        job = deeds.run_schedule(opened.broker, opened.control, row.schedule, by=act.by)
    if job is None:
        return f"A job like that of {act.key} is there already; nothing was sent"
    act.to = f"/jobs/{job}"
    return f"{act.key} was sent now; this is its job"


VERBS: Final = (
    Verb("run", "run_schedule", "Run now", _run),
    Verb("pause", "pause_schedule", "Pause", _pause),
    Verb("resume", "resume_schedule", "Resume", _resume),
    Verb(
        "remove",
        "remove_schedule",
        "Remove",
        _remove,
        say="It is forgotten with the history of its ticks; the jobs it sent stay.",
        typed=True,
        danger=True,
    ),
)
offer(router, "/schedules", "schedule", VERBS)


@router.get("/schedules", dependencies=[Depends(allow("list_schedules"))])
def schedules(request: Request, opened: Opened) -> Response:
    return page(
        request,
        "schedules.html",
        title="Schedules",
        topics="schedules,jobs",
        rows=opened.schedules.all(),
        leader=asked(request, opened).leader("scheduler"),
    )


@router.get("/schedules/{key:path}", dependencies=[Depends(allow("get_schedule"))])
def schedule(request: Request, opened: Opened, key: str) -> Response:
    row = opened.schedules.one(key)
    if row is None:
        raise ScheduleNotFound(f"there is no schedule {key!r}")
    now = opened.schedules.time()
    names = [
        "run",
        "resume" if row.paused_at else "pause",
        *(["remove"] if row.source == "data" or row.left_out else []),
    ]
    return page(
        request,
        "schedule.html",
        now=now,
        title=key,
        topics="schedules,jobs",
        row=row,
        fires=row.schedule.timetable.preview(now, _FIRES) if row.schedule and row.state == "active" else [],
        zone=ZoneInfo(row.schedule.timetable.tz) if row.schedule else None,
        ticks=opened.schedules.history(key, _TICKS),
        definition=_definition(row),
        offered=offered(request, VERBS, *names),
    )


def _definition(row: ScheduleView) -> str:
    """As it is kept, without what looks like a secret."""
    return json.dumps(redacted(json.loads(row.schedule.definition()))) if row.schedule else ""

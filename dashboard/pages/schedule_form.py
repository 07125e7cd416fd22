"""A schedule written in a form: looked at before it is kept, added, changed."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, get_args
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData

from control import schedules as verbs
from dashboard.pages import flash
from dashboard.pages.forms import APART, Act
from dashboard.pages.rendering import Shell, page
from dashboard.security import allow, principal, who
from dashboard.sending import acting
from dashboard.services import Opened, Services
from errors import BadInput, BadSchedule, HarelineError, ScheduleNotFound
from ledger.redact import redacted
from ledger.schedules import Schedule
from ledger.schedules.schedule import Missed, Overlap
from ledger.schedules.timetable import Dst
from ledger.schedules.words import words

router = APIRouter(dependencies=[Depends(allow("put_schedule"))])

_FIRES: Final = 5
#: JSON up to so many characters is written in one line.
_SHORT: Final = 50
#: What a new one begins with.
_USUAL: Final[Mapping[str, str]] = {
    "key": "",
    "actor": "",
    "when": "",
    "tz": "UTC",
    "args": "[]",
    "kwargs": "{}",
    "options": "{}",
    "start": "",
    "end": "",
    "jitter_s": "0",
    "dst": "once",
    "missed": Missed.LATEST,
    "within_s": "3600",
    "most": "10",
    "overlap": Overlap.ALLOW,
}
_CHOICES: Final = {"dst": get_args(Dst), "missed": tuple(Missed), "overlap": tuple(Overlap)}


@router.get("/new/schedule")
def new(request: Request, opened: Opened, actor: str = "") -> Response:
    return _page(request, opened, "", {**_USUAL, "actor": actor})


@router.post("/new/schedule")
async def add(request: Request, opened: Opened) -> Response:
    given = await request.form()
    return await run_in_threadpool(_put, request, opened, "", given)


@router.get("/schedules/{key:path}/edit")
def edit(request: Request, opened: Opened, key: str) -> Response:
    return _page(request, opened, key, _written(request, opened, key))


@router.post("/schedules/{key:path}/edit")
async def change(request: Request, opened: Opened, key: str) -> Response:
    given = await request.form()
    return await run_in_threadpool(_put, request, opened, key, given)


def _put(request: Request, opened: Services, key: str, given: FormData) -> Response:
    act = Act(request, opened, key, given)
    texts = {name: act.text(name, usual if name in ("args", "kwargs") else "") for name, usual in _USUAL.items()}
    try:
        wanted = _read(act, key or texts["key"])
        with acting(opened, act.by):
            opened.broker.check_schedule(wanted)
        if act.text("check"):
            return _page(request, opened, key, texts, wanted=wanted)
        with acting(opened, act.by):
            verbs.put(opened.control, [wanted], judge=opened.broker, by=act.by, expect="known" if key else "new")
    except APART:
        raise
    except HarelineError as error:
        return _page(request, opened, key, texts, trouble=str(error))
    told = f"{wanted.key} is sent {words(wanted.timetable)}"
    return flash.redirect(request, Shell(request).url("/schedules", wanted.key), told)


def _read(act: Act, key: str) -> Schedule:
    """What the form says.  Raises ``BadSchedule``, ``BadInput``."""
    return Schedule(
        key,
        act.text("actor"),
        act.text("when"),
        act.text("tz", "UTC"),
        tuple(act.json("args", list, "[]")),
        act.json("kwargs", dict, "{}"),
        act.json("options", dict, "{}"),
        _moment(act, "start"),
        _moment(act, "end"),
        act.number("jitter_s", 0),
        act.text("dst", "once"),  # type: ignore[arg-type]  # it is checked
        act.text("missed", Missed.LATEST),
        act.number("within_s", 3600),
        round(act.number("most", 10)),
        act.text("overlap", Overlap.ALLOW),
    )


def _moment(act: Act, name: str) -> datetime | None:
    text = act.text(name)
    try:
        return datetime.fromisoformat(text) if text else None
    except ValueError:
        raise BadInput(f"{name}: {text!r} is no time; write for example 2026-07-01T09:00+02:00") from None


def _written(request: Request, opened: Services, key: str) -> dict[str, str]:
    """It as the form has it.  Of what has secrets the journal says that they were shown, and to whom.

    Raises ``Denied`` for who may not see them.
    """
    row = opened.schedules.one(key)
    if row is None:
        raise ScheduleNotFound(f"there is no schedule {key!r}")
    if row.schedule is None:
        raise BadSchedule(f"what is kept of {key!r} cannot be read; remove it and add it anew")
    kept = row.schedule
    carried = {"args": list(kept.args), "kwargs": dict(kept.kwargs), "options": dict(kept.options)}
    if redacted(carried) != carried:
        principal(request).demand("reveal_job_payload")
        verbs.reveal(opened.control, key, by=who(request))
    return {name: _as_text(carried.get(name, getattr(kept, name))) for name in _USUAL}


def _as_text(value: Any) -> str:
    match value:
        case None:
            return ""
        case datetime():
            return value.isoformat(timespec="minutes")
        case float():
            return f"{value:g}"
        case list() | dict():
            short = json.dumps(value, ensure_ascii=False)
            return short if len(short) < _SHORT else json.dumps(value, indent=2, ensure_ascii=False)
        case _:
            return str(value)


def _page(
    request: Request,
    opened: Services,
    key: str,
    texts: Mapping[str, str],
    *,
    trouble: str = "",
    wanted: Schedule | None = None,
) -> Response:
    now = opened.schedules.time()
    return page(
        request,
        "schedule_form.html",
        now=now,
        status=422 if trouble else 200,
        title=f"Change {key}" if key else "New schedule",
        key=key,
        given=texts,
        choices=_CHOICES,
        actors=sorted(opened.broker.get_declared_actors()),
        trouble=trouble,
        words=words(wanted.timetable) if wanted else "",
        fires=wanted.timetable.preview(now, _FIRES) if wanted else [],
        zone=ZoneInfo(wanted.timetable.tz) if wanted else None,
    )

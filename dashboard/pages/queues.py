"""Queues: how much waits, how fast it goes, and what can be done about it."""

from typing import Final

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from broker import catalogue
from control import queues as verbs
from dashboard.pages.forms import Act, Verb, offer, offered
from dashboard.pages.periods import PERIODS, period
from dashboard.pages.reading import asked
from dashboard.pages.rendering import page
from dashboard.security import allow
from dashboard.services import Opened
from rabbitmq.topology import DEAD_LETTERS

router = APIRouter()


def _known(act: Act) -> str:
    return catalogue.queue(act.services.broker, act.services.queries, act.key).name


def _pause(act: Act) -> str:
    verbs.pause(act.services.control, _known(act), by=act.by)
    return f"{act.key} is paused: nothing new of it starts, what runs finishes"


def _resume(act: Act) -> str:
    held = verbs.resume(act.services.control, _known(act), by=act.by)
    return f"{act.key} goes on" + (f"; {held:,} jobs had been held back" if held else "")


VERBS: Final = (
    Verb("pause", "pause_queue", "Pause", _pause),
    Verb("resume", "resume_queue", "Resume", _resume),
)
offer(router, "/queues", "queue", VERBS)


@router.get("/queues", dependencies=[Depends(allow("list_queues"))])
def queues(request: Request, opened: Opened) -> Response:
    queries = asked(request, opened)
    return page(
        request,
        "queues.html",
        title="Queues",
        topics="queues,jobs,workers",
        queues=catalogue.queues(opened.broker, queries),
        served=_served(opened),
    )


@router.get("/queues/{name:path}", dependencies=[Depends(allow("get_queue"))])
def queue(request: Request, opened: Opened, name: str, window: str = "") -> Response:
    queries = asked(request, opened)
    found = catalogue.queue(opened.broker, queries, name)
    now = queries.database_time()
    chosen = period(window, "1h")
    length, parts = PERIODS[chosen]
    series = queries.series(since=now - length, until=now, points=parts, queue=name)
    return page(
        request,
        "queue.html",
        now=now,
        title=name,
        topics="queues,jobs,workers",
        queue=found,
        window=chosen,
        windows=list(PERIODS),
        ended=[(x.at, (x.completed, x.failed, x.retried)) for x in series.points],
        took=[(x.at, (x.run.p95, x.wait.p95) if x.run.count else (None, None)) for x in series.points],
        actors=queries.performance(since=now - length, until=now, scopes=[name]),
        workers=[x for x in queries.workers() if name in x.queues],
        road=opened.road.queues([name, name + DEAD_LETTERS]) if opened.road else None,
        offered=offered(request, VERBS, "resume" if found.paused else "pause"),
    )


def _served(opened: Opened) -> dict[str, int]:
    """By how many threads each queue is served."""
    found: dict[str, int] = {}
    for worker in opened.queries.workers():
        for name in worker.queues:
            found[name] = found.get(name, 0) + 1
    return found

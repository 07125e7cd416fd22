"""Worker processes: who they are, what they run, whether they are heard of."""

from typing import Final

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from control import workers as verbs
from dashboard.pages.forms import Act, Verb, offer, offered
from dashboard.pages.reading import asked
from dashboard.pages.rendering import page
from dashboard.security import allow
from dashboard.services import Opened
from errors import NotFound
from ledger.views import WorkerView

router = APIRouter()

#: Silent for so long, a worker is shown as stale: three heartbeats.
STALE_S: Final = 15.0


def _id(text: str) -> int:
    """Raises ``NotFound``."""
    if not text.isdecimal() or len(text) > 18:
        raise NotFound(f"there is no worker {text!r}: they have numbers")
    return int(text)


def _quiet(act: Act) -> str:
    verbs.quiet(act.services.control, _id(act.key), by=act.by)
    return f"Worker {act.key} was asked to start nothing more; it finishes what it runs"


def _resume(act: Act) -> str:
    verbs.resume(act.services.control, _id(act.key), by=act.by)
    return f"Worker {act.key} was asked to take jobs again"


def _stop(act: Act) -> str:
    verbs.stop(act.services.control, _id(act.key), by=act.by)
    return f"Worker {act.key} was asked to end in good order"


VERBS: Final = (
    Verb("quiet", "quiet_worker", "Quiet", _quiet),
    Verb("resume", "resume_worker", "Resume", _resume),
    Verb(
        "stop",
        "stop_worker",
        "Stop",
        _stop,
        say="It starts nothing more, finishes what it runs within its grace, gives back the rest, and ends.",
        danger=True,
    ),
)
offer(router, "/workers", "worker", VERBS)


@router.get("/workers", dependencies=[Depends(allow("list_workers"))])
def workers(request: Request, opened: Opened, everyone: bool = False) -> Response:
    return page(
        request,
        "workers.html",
        title="Workers",
        topics="workers,jobs",
        workers=asked(request, opened).workers(everyone=everyone),
        everyone=everyone,
        stale_s=STALE_S,
    )


@router.get("/workers/{id}", dependencies=[Depends(allow("get_worker"))])
def worker(request: Request, opened: Opened, id: str) -> Response:
    found = verbs.one(asked(request, opened), _id(id))
    return page(
        request,
        "worker.html",
        title=f"Worker {id}",
        topics="workers,jobs",
        worker=found,
        stale_s=STALE_S,
        offered=offered(request, VERBS, *_fitting(found)),
    )


def _fitting(worker: WorkerView) -> list[str]:
    if worker.state != "running" or worker.asked == "stop":
        return []
    return ["resume" if worker.asked == "quiet" else "quiet", "stop"]

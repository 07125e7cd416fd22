"""Worker processes: who they are, what they run, whether they are heard of."""

from typing import Final

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from dashboard.pages.reading import asked
from dashboard.pages.rendering import page
from dashboard.security import allow
from dashboard.services import Opened
from errors import NotFound

router = APIRouter()

#: Silent for so long, a worker is shown as stale: three heartbeats.
STALE_S: Final = 15.0


def _id(text: str) -> int:
    """Raises ``NotFound``."""
    if not text.isdecimal() or len(text) > 18:
        raise NotFound(f"there is no worker {text!r}: they have numbers")
    return int(text)


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
    number = _id(id)
    found = next((row for row in asked(request, opened).workers(everyone=True) if row.id == number), None)
    if found is None:
        raise NotFound(f"there is no worker {id}; the list of workers has those there are")
    return page(
        request,
        "worker.html",
        title=f"Worker {id}",
        topics="workers,jobs",
        worker=found,
        stale_s=STALE_S,
    )

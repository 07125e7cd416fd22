"""What is served at ``/dramatiq``."""

import re
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Final

from dramatiq.common import q_name
from fastapi import APIRouter, Depends, Form, Query, Request
from fastapi.responses import RedirectResponse, Response
from starlette.exceptions import HTTPException

from control import dead, jobs
from dashboard.security import allow, principal, who
from dashboard.services import Opened
from errors import JobNotFound
from ledger.states import FINISHED, State

if TYPE_CHECKING:
    from dashboard.dramatiq_pages.pages import Pages

router = APIRouter(prefix="/dramatiq", include_in_schema=False, dependencies=[Depends(allow("list_dramatiq"))])

_QUEUE: Final = re.compile(r"/queues/([^/]+)(/.*)?")
#: A number of a UUID, or its first page.
Cursor = Annotated[int | None, Query(ge=0, lt=1 << 128)]
Field = Annotated[str, Form(min_length=1, max_length=300)]


@router.get("")
def without_slash(request: Request) -> Response:
    return RedirectResponse(f"{_root(request)}/dramatiq/", 307)


@router.get("/{path:path}")
def show(request: Request, opened: Opened, path: str, cursor: Cursor = None) -> Response:
    """One of its pages."""
    from dashboard.dramatiq_pages.interface import Interface
    from dashboard.dramatiq_pages.pages import Visit

    pages = _pages()
    interface = Interface(opened, principal(request))
    path = f"/{path}"
    if (named := _QUEUE.fullmatch(path)) and interface.get_queue(q_name(named[1])) is None:
        raise HTTPException(404, f"there is no queue {named[1]!r}")
    traffic = opened.road.queues(queue.name for queue in interface.queues) if path == "/" and opened.road else ()
    answer = pages.get(Visit(interface, _root(request), tuple(traffic)), path, cursor) if path.isprintable() else None
    if answer is None or answer.status == 404:
        raise HTTPException(404, "dramatiq-dashboard has no such page")
    headers = {"content-security-policy": _policy(pages), "x-robots-tag": "noindex"}
    if answer.location is not None:
        headers["location"] = answer.location
    return Response(answer.body, answer.status, headers, "text/html; charset=utf-8")


@router.post("/requeue-message")
def requeue(request: Request, opened: Opened, queue: Field, id: Field) -> Response:
    """Send a dead letter round again, and show the job."""
    principal(request).demand("retry_job")
    job = _job(request, opened, queue, id)
    dead.retry(opened.control, job.id, by=who(request))
    return RedirectResponse(f"{_root(request)}/dramatiq/queues/{q_name(queue)}/standard/{job.id}", 303)


@router.post("/delete-message")
def delete(request: Request, opened: Opened, queue: Field, id: Field) -> Response:
    """Remove a job that is over; cancel one that is not: its record stays."""
    asks = principal(request)
    job = _job(request, opened, queue, id)
    asks.demand("remove_job" if job.state in FINISHED else "cancel_job")
    if job.state is State.FAILED:
        dead.discard(opened.control, job.id, by=asks.who)
    elif job.state in FINISHED:
        jobs.remove(opened.control, job.id, by=asks.who)
    else:
        jobs.cancel(opened.control, job.id, by=asks.who)
    tab = {State.FAILED: "failed", State.DELAYED: "delayed"}.get(job.state, "standard")
    return RedirectResponse(f"{_root(request)}/dramatiq/queues/{q_name(queue)}/{tab}", 303)


@cache
def _pages() -> "Pages":
    try:
        from dashboard.dramatiq_pages.pages import Pages
    except ModuleNotFoundError as error:
        raise HTTPException(
            501, f"dramatiq-dashboard is not installed ({error}): pip install --no-deps dramatiq-dashboard redis"
        ) from None
    return Pages()


def _policy(pages: "Pages") -> str:
    """Nothing but its one inline style, which is named by its hash, and its forms."""
    return (
        f"default-src 'none'; style-src {pages.style}; img-src 'self'; form-action 'self'; frame-ancestors 'none'; "
        "base-uri 'none'"
    )


def _job(request: Request, opened: Opened, queue: str, id: str) -> Any:
    from dashboard.dramatiq_pages.interface import Interface

    view = Interface(opened, principal(request)).view(queue, id)
    if view is None:
        raise JobNotFound(f"queue {queue!r} has no job {id!r}")
    return view


def _root(request: Request) -> str:
    root: str = request.scope.get("root_path", "")
    return root

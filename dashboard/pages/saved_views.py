"""Lists of jobs under a name: kept, shared by their address, forgotten."""

from typing import Annotated
from urllib.parse import parse_qsl

from fastapi import APIRouter, Depends, Form, Request
from fastapi.responses import RedirectResponse, Response

from control import saved_views as verbs
from dashboard.pages import flash
from dashboard.pages.rendering import Shell
from dashboard.security import By, allow
from dashboard.services import Opened
from errors import HarelineError, NotFound

router = APIRouter()


@router.get("/views/{owner}/{name:path}", dependencies=[Depends(allow("list_jobs"))])
def view(request: Request, opened: Opened, owner: str, name: str) -> Response:
    """Go to the list that it is now; whoever looks sees of it what they may."""
    found = opened.queries.saved_view(owner, name)
    if found is None:
        raise NotFound(f"{owner} has no view {name!r}")
    return RedirectResponse(Shell(request).url("/jobs", **dict(parse_qsl(found.query))), 303)


@router.post("/views", dependencies=[Depends(allow("save_view"))])
def save(
    request: Request, opened: Opened, by: By, name: Annotated[str, Form()] = "", query: Annotated[str, Form()] = ""
) -> Response:
    url = Shell(request).url
    try:
        kept = verbs.save(opened.control, name.strip(), query, by=by)
    except HarelineError as error:
        return flash.redirect(request, url("/jobs"), str(error), kind="error")
    told = f"Kept as {kept.name}; this address shows it to anybody: {url('/views', kept.owner, kept.name)}"
    return flash.redirect(request, url("/jobs", **dict(parse_qsl(kept.query))), told)


@router.post("/views/remove", dependencies=[Depends(allow("remove_view"))])
def remove(request: Request, opened: Opened, by: By, name: Annotated[str, Form()]) -> Response:
    verbs.remove(opened.control, name, by=by)
    return flash.redirect(request, Shell(request).url("/jobs"), f"The view {name} is forgotten")

"""What this console goes by: how it looks, who may do what, what it runs with, what it is made of."""

import json
from functools import cache
from importlib.metadata import distributions
from typing import Any, Final

from fastapi import APIRouter, Depends, Request
from fastapi.responses import PlainTextResponse, Response

from control.permissions import PERMISSIONS, Role
from dashboard.pages.rendering import STATIC, page
from dashboard.security import allow, principal
from dashboard.services import Opened
from errors import NotFound

router = APIRouter()

#: What is worth naming when something behaves oddly.
_PARTS: Final = (
    "hareline",
    "dramatiq",
    "pika",
    "psycopg",
    "sqlalchemy",
    "apscheduler",
    "fastapi",
    "starlette",
    "jinja2",
)


@router.get("/settings", dependencies=[Depends(allow("get_me"))])
def settings(request: Request, opened: Opened) -> Response:
    shows = principal(request).may("get_settings")
    return page(
        request,
        "settings.html",
        title="Settings",
        roles=list(Role),
        permissions=_permissions(),
        versions=_versions(),
        vendored=_vendored(),
        explained=opened.settings.explain() if shows else [],
        road="rabbitmq" if opened.road else "embedded",
    )


@router.get("/licences/{file}", dependencies=[Depends(allow("get_me"))])
def licence(file: str) -> Response:
    """The text under which a part that others wrote is used."""
    if file not in {part["licence_file"] for part in _vendored()}:
        raise NotFound(f"there is no licence {file!r}; the settings page lists them")
    return PlainTextResponse((STATIC / "vendor" / file).read_text())


@cache
def _vendored() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((STATIC / "vendor" / "manifest.json").read_text())
    return found


@cache
def _versions() -> list[tuple[str, str]]:
    known = {one.name.lower(): one.version for one in distributions()}
    return [(name, known[name]) for name in _PARTS if name in known]


def _permissions() -> list[tuple[Role, list[str]]]:
    return [(role, [name for name, needed in PERMISSIONS.items() if needed == role]) for role in Role]

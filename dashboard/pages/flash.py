"""What is told once, on the page after a deed: kept in a cookie until it is shown."""

import base64
import binascii
import json
from typing import NamedTuple

from fastapi import Request
from fastapi.responses import RedirectResponse, Response

_COOKIE = "hareline_flash"
_MOST = 600
_SECONDS = 60


class Told(NamedTuple):
    """A sentence, and where it leads."""

    kind: str  #: done or error
    text: str
    link: str = ""


def redirect(request: Request, to: str, text: str = "", *, kind: str = "done", link: str = "") -> Response:
    """Go to another page after a form, and say there what was done.  ``to`` and ``link`` have the prefix already."""
    response = RedirectResponse(to, 303)
    if text:
        cut = text if len(text) <= _MOST else text[: _MOST - 1] + "…"
        value = base64.urlsafe_b64encode(json.dumps([kind, cut, link]).encode()).decode()
        secure = request.url.scheme == "https"
        response.set_cookie(
            _COOKIE, value, max_age=_SECONDS, path=_path(request), httponly=True, samesite="lax", secure=secure
        )
    return response


def read(request: Request) -> Told | None:
    """What is to be told now; None for what is no such thing."""
    try:
        kind, text, link = json.loads(base64.urlsafe_b64decode(request.cookies.get(_COOKIE, "")))
    except (ValueError, binascii.Error):
        return None
    if kind not in ("done", "error") or not isinstance(text, str) or not isinstance(link, str):
        return None
    return Told(kind, text, link if link.startswith("/") and not link.startswith("//") else "")


def forget(request: Request, response: Response) -> None:
    response.delete_cookie(_COOKIE, path=_path(request))


def _path(request: Request) -> str:
    return request.scope.get("root_path", "") or "/"

"""Logging in and out: the cookie, and two forms that work without a script."""

from collections.abc import Callable
from html import escape
from typing import TypeAlias
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, Form, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from control import Control, sessions
from control.who import Who
from dashboard.security.doors import COOKIE, SECURE_COOKIE, Doors
from dashboard.security.permission import allow, everybody
from dashboard.security.sources import address_of, refuse_other_sites, within
from errors import NotAuthenticated, Throttled
from settings import Settings, loopback

router = APIRouter(include_in_schema=False)

#: Draws the page: to which path it leads, whose name was typed, and what was wrong with the last try.
Drawn: TypeAlias = Callable[[Request, str, str, NotAuthenticated | Throttled | None], Response]


class Login:
    """Thread-safe.  Creating one does no I/O."""

    def __init__(self, settings: Settings, doors: Doors) -> None:
        self.settings = settings
        self.doors = doors
        self.control = Control(settings.database_url, "rabbitmq" if settings.broker_url else "embedded")

    def begin(self, request: Request, name: str, password: str, to: str = "/") -> Response:
        """Log in, and go on to a path of this console.  Raises ``NotAuthenticated``, ``Throttled``, ``Denied``."""
        refuse_other_sites(request, tools=True)  # or another site logs somebody in as somebody else
        by = Who(name[:100], "console", address=address_of(request, self.doors.trusted), request=_id(request))
        made = sessions.log_in(self.control, name, password, lasts_s=self.settings.console_session_s, by=by)
        response = RedirectResponse(request.scope.get("root_path", "") + path_of(to), 303)
        self.end(request, response)  # of another session: its key is not to be used again
        secure = self.secure(request)
        response.set_cookie(
            SECURE_COOKIE if secure else COOKIE,
            made.key,
            max_age=made.lasts_s,
            path="/",
            secure=secure,
            httponly=True,
            samesite="lax",
        )
        return response

    def end(self, request: Request, response: Response) -> None:
        """Log out whoever is logged in."""
        for name in (COOKIE, SECURE_COOKIE):
            if key := request.cookies.get(name):
                found = request.scope.get("state", {}).get("principal")
                by = found.who if found else Who("", "console", address=address_of(request, self.doors.trusted))
                sessions.log_out(self.control, key, by=by)
                response.delete_cookie(name, path="/", secure=name == SECURE_COOKIE, httponly=True, samesite="lax")

    def secure(self, request: Request) -> bool:
        """Whether the cookie is for TLS only: but for this machine's own plain HTTP, always."""
        trusted = request.client is not None and within(request.client.host, self.doors.trusted)
        scheme = request.headers.get("x-forwarded-proto", "") if trusted else request.url.scheme
        return scheme == "https" or not loopback(urlsplit(f"//{request.headers.get('host', '')}").hostname or "")


@router.get("/login", dependencies=[Depends(everybody)])
def show_login(request: Request, to: str = "/") -> Response:
    return form(request, to)


@router.post("/login", dependencies=[Depends(everybody)])
def login(request: Request, name: str = Form(""), password: str = Form(""), to: str = Form("/")) -> Response:
    try:
        return login_of(request).begin(request, name, password, to)
    except (NotAuthenticated, Throttled) as error:
        return form(request, to, name, error)


@router.post("/logout", dependencies=[Depends(allow("logout"))])
def logout(request: Request) -> Response:
    response = RedirectResponse(request.scope.get("root_path", "") + "/login", 303)
    login_of(request).end(request, response)
    return response


def login_of(request: Request) -> Login:
    found: Login = request.app.state.login
    return found


def path_of(text: str) -> str:
    """A path of this console; the front page for anything that leads elsewhere."""
    parts = urlsplit(text)
    inside = text.startswith("/") and not text.startswith(("//", "/\\")) and not (parts.scheme or parts.netloc)
    return text if inside and text.isprintable() and len(text) < 2_000 else "/"


def form(request: Request, to: str, name: str = "", error: NotAuthenticated | Throttled | None = None) -> Response:
    """The page: that of the console, or one as plain as can be."""
    drawn: Drawn | None = getattr(request.app.state, "login_form", None)
    if drawn is not None:
        return drawn(request, path_of(to), name, error)
    said = f'<p role="alert">{escape(str(error))}</p>' if error else ""
    wait = {"Retry-After": str(error.retry_after_s)} if isinstance(error, Throttled) else None
    status = 200 if error is None else 429 if isinstance(error, Throttled) else 401
    action = escape(request.scope.get("root_path", "") + "/login")
    page = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><title>Log in · Hareline</title></head>
<body><main><h1>Hareline</h1>{said}
<form method="post" action="{action}"><input type="hidden" name="to" value="{escape(path_of(to))}">
<p><label>Name<br><input name="name" value="{escape(name[:100])}" autocomplete="username" required></label></p>
<p><label>Password<br><input type="password" name="password" autocomplete="current-password" required></label></p>
<p><button>Log in</button></p></form></main></body></html>"""
    return HTMLResponse(page, status, wait)


def _id(request: Request) -> str:
    return str(request.scope.get("state", {}).get("request_id", ""))

"""What is done to every request before anything else sees it."""

import json
import logging
import re
import secrets
from collections.abc import Awaitable, Callable
from typing import Any, Final
from urllib.parse import quote, urlencode

import structlog
from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dashboard.security import login
from dashboard.security.doors import Doors
from dashboard.security.permission import check_routes
from dashboard.security.principal import Principal
from dashboard.security.sources import address_of
from errors import Denied, HarelineError, NotAuthenticated
from settings import Settings

logger = logging.getLogger(__name__)

#: Paths that are answered before anybody has logged in, and beginnings of such.
PUBLIC: Final = frozenset({"/login", "/favicon.ico", "/api/v1/ready"})
#: Paths at which nobody is asked who they are, whatever they send along: that would need the ledger.
PROBES: Final = frozenset({"/livez", "/readyz"})
PUBLIC_BELOW: Final = "/static/"
HEADERS: Final = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
        "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "cache-control": "no-store",
}
Handler = Callable[[Request, Any], Response | Awaitable[Response]]

_ID: Final = re.compile(r"[A-Za-z0-9._-]{8,64}")


def install(app: FastAPI, settings: Settings) -> None:
    """See to it that nothing of ``app`` is reached but by whom it is for.  No I/O.

    It is checked when the application starts, with all its routes.  Raises ``SettingsError``.
    """
    doors = Doors(settings)
    app.state.login = login.Login(settings, doors)
    app.include_router(login.router)
    app.add_middleware(Shield, owner=app, doors=doors)


def demand_somebody(settings: Settings) -> None:
    """Raise ``SettingsError`` when nobody could come in: a console that is open to all is never what is meant."""
    doors = Doors(settings)
    try:
        doors.demand_one()
    finally:
        doors.accounts.close()


class Shield:
    """An identity for every request, or an answer; and the headers that keep browsers in bounds."""

    def __init__(self, app: ASGIApp, owner: FastAPI, doors: Doors) -> None:
        self.app = app
        self.owner = owner
        self.doors = doors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            check_routes(self.owner)
            try:
                return await self.app(scope, receive, send)
            finally:
                self.doors.accounts.close()
                self.owner.state.login.control.close()
        if scope["type"] != "http":
            return await send({"type": "websocket.close", "code": 1008})
        request = Request(scope, receive)
        id = _id(request)
        state = scope.setdefault("state", {})
        state["request_id"] = id
        answer = _Answer(send, id)
        with structlog.contextvars.bound_contextvars(request=id):
            try:
                await self._serve(request, receive, answer)
            except Exception as error:  # or it would be answered outside, without an id and without the headers
                handler = self._handler(error) or self.owner.exception_handlers.get(Exception)
                if handler is None or answer.begun:
                    raise
                await (await _response(handler(request, error)))(scope, receive, answer)

    async def _serve(self, request: Request, receive: Receive, send: Send) -> None:
        scope = request.scope
        if _path(scope) not in PROBES:
            try:
                found = await run_in_threadpool(self._identify, request, scope["state"]["request_id"])
                scope["state"]["principal"] = found
                if found is None and not _public(scope):
                    raise NotAuthenticated("log in, or send a token: Authorization: Bearer …")
            except HarelineError as error:
                return await (await self._answer(request, error))(scope, receive, send)
        await self.app(scope, receive, send)

    def _identify(self, request: Request, id: str) -> Principal | None:
        return self.doors.identify(request, address_of(request, self.doors.trusted), id)

    def _handler(self, error: Exception) -> Handler | None:
        """The application's own for errors of this kind."""
        found = (self.owner.exception_handlers.get(kind) for kind in type(error).__mro__ if kind is not Exception)
        return next(filter(None, found), None)

    async def _answer(self, request: Request, error: HarelineError) -> Response:
        """As the application words its errors; else as a problem of RFC 9457."""
        page = "text/html" in request.headers.get("accept", "")
        if isinstance(error, NotAuthenticated) and page and request.method == "GET":
            prefix = request.scope.get("root_path", "")
            here = quote(_path(request.scope), safe="/:@!$,;=~*'()+")
            asked = f"{here}?{request.url.query}" if request.url.query else here
            return RedirectResponse(f"{prefix}/login?{urlencode({'to': login.path_of(asked)})}", 303)
        if (handler := self._handler(error)) is not None:
            return await _response(handler(request, error))
        status = 401 if isinstance(error, NotAuthenticated) else 403 if isinstance(error, Denied) else 400
        problem = {"type": "about:blank", "title": type(error).__name__, "status": status, "detail": str(error)}
        return Response(json.dumps(problem), status, media_type="application/problem+json")


def _public(scope: Scope) -> bool:
    path = _path(scope)
    return path in PUBLIC or path.startswith(PUBLIC_BELOW)


def _path(scope: Scope) -> str:
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


def _id(request: Request) -> str:
    """The request's id: one that the caller gave, if it is fit for a log."""
    given = request.headers.get("x-request-id", "")
    return given if _ID.fullmatch(given) else secrets.token_hex(8)


async def _response(answer: Response | Awaitable[Response]) -> Response:
    return await answer if isinstance(answer, Awaitable) else answer


class _Answer:
    """What is sent to whoever asked, with the headers that every answer has."""

    def __init__(self, send: Send, id: str) -> None:
        self._send = send
        self._id = id
        self.begun = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.begun = True
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
            headers["x-request-id"] = self._id
        await self._send(message)

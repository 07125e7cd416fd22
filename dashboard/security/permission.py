"""What they may do: on every route, or the application does not start."""

import secrets
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, iter_route_contexts
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Receive, Scope, Send

from control.audit import put_down
from control.permissions import ANYBODYS, check
from control.who import Who
from dashboard.security.principal import Principal
from dashboard.security.sources import SAFE
from errors import Denied, ForeignRequest, NotAuthenticated, UnmappedOperation

_OPERATION = "_operation"


def principal(request: Request) -> Principal:
    """Who asks.  Raises ``NotAuthenticated``."""
    found = request.scope.get("state", {}).get("principal")
    if not isinstance(found, Principal):
        raise NotAuthenticated("log in, or send a token: Authorization: Bearer …")
    return found


def who(request: Request) -> Who:
    """In whose name a verb is done, and what was asked for."""
    return replace(principal(request).who, operation=request.scope["state"].get("operation", ""))


By = Annotated[Who, Depends(who)]


def allow(operation: str) -> Callable[[Request], Awaitable[None]]:
    """A dependency: only for those who may do this, and not for another site's forms."""

    async def allowed(request: Request) -> None:
        if operation in ANYBODYS:
            return
        asks = principal(request)
        request.scope["state"]["operation"] = operation
        if asks.csrf and request.method not in SAFE:
            given = request.headers.get("x-csrf-token") or (await request.form()).get("csrf_token")
            if not isinstance(given, str) or not secrets.compare_digest(given.encode(), asks.csrf.encode()):
                raise ForeignRequest("the form is not of this session any more; load the page again, and send it anew")
        try:
            asks.demand(operation)
        except Denied as error:
            await run_in_threadpool(_refused, request, operation, str(error))
            raise

    setattr(allowed, _OPERATION, operation)
    return allowed


def _refused(request: Request, operation: str, why: str) -> None:
    """Put down in the audit trail what somebody wanted to do and may not."""
    put_down(
        request.app.state.login.control,
        operation,
        {"path": request.url.path[:200], "method": request.method},
        result="refused",
        why=why,
        by=who(request),
    )


def everybody() -> None:
    """A dependency that says: this route is for whoever asks."""


setattr(everybody, _OPERATION, "")


class Guard:
    """A mounted application, for those who may do ``read``; what changes anything for those who may do ``write``."""

    def __init__(self, app: ASGIApp, *, read: str, write: str) -> None:
        check([read, write])
        self.app = app
        self.read = read
        self.write = write

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            principal(Request(scope)).demand(self.read if scope["method"] in SAFE else self.write)
        await self.app(scope, receive, send)


def check_routes(app: FastAPI) -> None:
    """Raise ``UnmappedOperation`` unless for every route it is said who may use it."""
    missing: set[str] = set()
    for route in iter_route_contexts(app.routes):
        if not isinstance(route.original_route, APIRoute):
            continue  # for whoever is logged in: what the shield lets through
        operations = set(_operations(route.dependant))
        if not operations:
            raise UnmappedOperation(
                f"{route.path} ({route.name}) does not say who may use it: add Depends(allow(…)), or Depends(everybody)"
            )
        missing |= operations - {""}
        if route.include_in_schema and operations != {""} and route.unique_id not in operations:
            raise UnmappedOperation(f"{route.path} is the operation {route.unique_id}, but allows {sorted(operations)}")
    check(missing)


def _operations(dependant: Dependant) -> Iterator[str]:
    call: Callable[..., Any] | None = dependant.call
    if hasattr(call, _OPERATION):
        yield getattr(call, _OPERATION)
    for inner in dependant.dependencies:
        yield from _operations(inner)

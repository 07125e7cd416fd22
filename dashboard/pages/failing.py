"""Errors as pages, where a browser asks; programs get what the API gives."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse, Response
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from dashboard import problems
from dashboard.pages.rendering import page, wants_html
from errors import HarelineError, LedgerUnavailable, NotAuthenticated, QuestionTooSlow

Handler = Callable[[Request, Any], Response | Awaitable[Response]]


def install(app: FastAPI) -> None:
    """Put pages in front of the handlers that are there."""
    for kind, was in list(app.exception_handlers.items()):
        if kind in (HarelineError, PoolTimeout, RequestValidationError, HTTPException, Exception):
            app.exception_handlers[kind] = _as_page(was)


def _as_page(was: Handler) -> Handler:
    async def handle(request: Request, error: Exception) -> Response:
        if isinstance(error, NotAuthenticated) and wants_html(request):
            return RedirectResponse(request.scope.get("root_path", "") + "/login", 303)
        answer = was(request, error)
        plain = answer if isinstance(answer, Response) else await answer
        if not wants_html(request):
            return plain
        return await run_in_threadpool(_page, request, error, plain)

    return handle


def _page(request: Request, error: Exception, plain: Response) -> Response:
    title, told, remedy = _words(request, plain.status_code, error)
    now = datetime.now(UTC)  # the ledger, which has the time, may be what is away
    passing = plain.status_code == 503 and not isinstance(error, QuestionTooSlow)  # which is as slow the next time
    again_s = plain.headers.get("retry-after") if passing and request.method == "GET" else None
    found = page(
        request,
        "error.html",
        now=now,
        status=plain.status_code,
        title=title,
        told=told,
        remedy="" if again_s else remedy,
        again_s=again_s,
    )
    if again_s:  # nothing was to be changed: the browser may ask again by itself
        found.headers.update({"refresh": again_s, "retry-after": again_s})
    return found


def _words(request: Request, status: int, error: Exception) -> tuple[str, str, str]:
    if isinstance(error, HarelineError):
        _, kind = problems.kind_of(error)
        away = "Go back, look whether what you asked for was done, and ask again."
        return kind.title, str(error), away if isinstance(error, LedgerUnavailable) else kind.remedy
    if isinstance(error, PoolTimeout):
        return "The ledger is busy", "All connections of this console to it are in use.", "Ask again."
    if status == 404:
        return (
            "There is no such page",
            "The address leads nowhere here.",
            "Find it from the overview, or search for it.",
        )
    if isinstance(error, RequestValidationError):
        return "The address does not fit", "Something in it is not what this page takes.", "Go back, and choose again."
    if status == 500:
        id = request.scope.get("state", {}).get("request_id", "")
        told = f"The console's log has more: look for request {id}."
        return "Something went wrong here", told, "Look whether it was done before you ask for it again."
    return "That is not possible", str(getattr(error, "detail", "")), ""

"""The page to log in by; security/login.py does it."""

from fastapi import Request
from fastapi.responses import Response

from dashboard.pages.rendering import page
from errors import NotAuthenticated, Throttled


def form(request: Request, to: str, name: str = "", error: NotAuthenticated | Throttled | None = None) -> Response:
    """The form, with what was wrong with the last try."""
    status = 200 if error is None else 429 if isinstance(error, Throttled) else 401
    response = page(
        request,
        "login.html",
        status=status,
        title="Log in",
        to=to,
        name=name[:100],
        trouble=str(error) if error else "",
    )
    if isinstance(error, Throttled):
        response.headers["Retry-After"] = str(error.retry_after_s)
    return response

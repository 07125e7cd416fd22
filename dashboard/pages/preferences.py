"""How a reader likes pages: theme, pace and zone, kept in cookies of theirs."""

from fastapi import APIRouter, Depends, Request
from fastapi.responses import RedirectResponse, Response

from dashboard.security import everybody

router = APIRouter(dependencies=[Depends(everybody)])

_NAMES = ("theme", "interval", "zone")
_YEAR_S = 31_536_000
_LONGEST = 60


@router.post("/preferences")
async def set_preferences(request: Request) -> Response:
    """Scripts set the same cookies; this is for pages without them."""
    given = await request.form()
    root: str = request.scope.get("root_path", "")
    to = given.get("to")
    inside = isinstance(to, str) and to.startswith(f"{root}/") and not to.startswith(("//", "/\\"))
    response = RedirectResponse(str(to) if inside else f"{root}/", 303)
    for name in _NAMES:
        value = given.get(name)
        if isinstance(value, str) and len(value) <= _LONGEST and value.isprintable() and value.isascii():
            response.set_cookie(f"hareline_{name}", value, max_age=_YEAR_S, path=root or "/", samesite="lax")
    return response

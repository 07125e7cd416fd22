"""What all routes of the API have in common."""

from collections.abc import Callable
from enum import Enum
from typing import Any

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.datastructures import DefaultPlaceholder
from fastapi.routing import APIRoute

from dashboard import security
from dashboard.api.repeated import NEVER, PARAMETER, Repeatable, once
from dashboard.problems import MEDIA_TYPE, PLAIN
from logs import clean

#: Where a problem's schema is in the document.
PROBLEM = {"$ref": "#/components/schemas/Problem"}
_ALWAYS = (401, 403, 422, 429, 503)


class Routes(APIRouter):
    """Routes whose operationId is the name of their function, which security has to allow.

    So nothing can be served that the map of permissions does not know.  What may go wrong is documented with each.
    """

    def __init__(self, *, tags: list[str | Enum]) -> None:
        super().__init__(tags=tags, route_class=Repeatable)

    def add_api_route(
        self,
        path: str,
        endpoint: Callable[..., Any],
        *,
        dependencies: Any = None,
        responses: dict[int | str, dict[str, Any]] | None = None,
        **options: Any,
    ) -> None:
        name = endpoint.__name__
        needed = [Depends(security.allow(name))]
        statuses = [*_ALWAYS, *([404] if "{" in path else [])]
        if set(options.get("methods") or {"GET"}) - {"GET"}:
            statuses += [400, 409, 413]
            needed.append(Depends(_is_json))
            if name not in NEVER:
                options["openapi_extra"] = {"parameters": [PARAMETER]}
                answers = options.get("response_model")
                if isinstance(answers, DefaultPlaceholder) or answers is None:
                    answers = endpoint.__annotations__["return"]
                endpoint = once(endpoint, answers, options.get("status_code") or 200)
        options["operation_id"] = name
        super().add_api_route(
            path,
            endpoint,
            dependencies=[*needed, *(dependencies or ())],
            responses={**may(*statuses), **(responses or {})},
            **options,
        )
        made = self.routes[-1]
        if isinstance(made, APIRoute) and made.body_field is not None:
            made.responses |= may(415)


async def _is_json(request: Request) -> None:
    """Raises a 415 where a body is taken, and what was sent does not say that it is JSON: else it is no object."""
    if request.scope["route"].body_field is None or not await request.body():
        return
    said = request.headers.get("content-type", "")
    kind, _, subtype = said.partition(";")[0].strip().lower().partition("/")
    if kind != "application" or not (subtype == "json" or subtype.endswith("+json")):
        fault = f"says {clean(said)[:100]!r}" if said else "is missing"
        raise HTTPException(415, f"the header Content-Type {fault}; a body is sent with Content-Type: application/json")


def may(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """How problems are documented, by status."""
    return {
        status: {"description": PLAIN[status][1].title, "content": {MEDIA_TYPE: {"schema": PROBLEM}}}
        for status in statuses
    }

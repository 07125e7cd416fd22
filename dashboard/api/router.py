"""What all routes of the API have in common."""

from collections.abc import Callable
from enum import Enum
from typing import Any

from fastapi import APIRouter, Depends
from fastapi.datastructures import DefaultPlaceholder

from dashboard import security
from dashboard.api.repeated import NEVER, PARAMETER, Repeatable, once
from dashboard.problems import MEDIA_TYPE, PLAIN

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
        statuses = [*_ALWAYS, *([404] if "{" in path else [])]
        if set(options.get("methods") or {"GET"}) - {"GET"}:
            statuses += [400, 409, 413]
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
            dependencies=[Depends(security.allow(name)), *(dependencies or ())],
            responses={**may(*statuses), **(responses or {})},
            **options,
        )


def may(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """How problems are documented, by status."""
    return {
        status: {"description": PLAIN[status][1].title, "content": {MEDIA_TYPE: {"schema": PROBLEM}}}
        for status in statuses
    }

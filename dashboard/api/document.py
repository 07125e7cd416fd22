"""The OpenAPI document: exactly what is served."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from dashboard.problems import Problem
from settings import Settings

ABOUT = """\
Everything a person can do in the console, for programs: the same verbs, permissions and audit trail.

Errors are `application/problem+json` (RFC 9457); rely on their `type`. Lists are pages: `next` of one is `after` of the
next, and null on the last. Times are UTC; durations are seconds where a name ends in `_s`, milliseconds with `_ms`.
"""


def install(app: FastAPI, settings: Settings) -> None:
    """Let ``app.openapi()`` be it."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app, settings)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _document(app: FastAPI, settings: Settings) -> dict[str, Any]:
    made = get_openapi(
        title=app.title,
        version=app.version,
        summary=app.summary,
        description=ABOUT,
        routes=app.routes,
        separate_input_output_schemas=False,
        servers=[{"url": settings.console_prefix or "/"}],
    )
    schemas = made["components"]["schemas"]
    problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas |= {**problem.pop("$defs", {}), "Problem": problem}
    return made

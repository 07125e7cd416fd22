"""The console: everything a person sees, one module per page, each as thin as the functions it shows allow.

install(app)    every page, what they load, and errors as pages

rendering.py    a page from its template; what every template has at hand
forms.py        verbs: a button, and a page that asks
flash.py        what is told once, after a deed
failing.py      errors as pages
shown.py        how figures and times are worded
drawing.py      small pictures; graph.py a flow; tree.py values of JSON
templates/      HTML; static/ the sheet, scripts and, in vendor/, what others wrote

Pages read with links and act with forms, without any script; scripts make them faster to use.
"""

from fastapi import FastAPI
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from dashboard.pages import (
    accounts,
    audit,
    failing,
    failures,
    flows,
    job,
    jobs,
    limits,
    login,
    operations,
    overview,
    preferences,
    queues,
    saved_views,
    schedule_form,
    schedules,
    settings,
    workers,
)
from dashboard.pages.rendering import STATIC


class _Assets(StaticFiles):
    """Files whose address names what is in them may be kept for good; the others are asked for again."""

    def file_response(self, *args: object, **kwargs: object) -> object:  # type: ignore[override]
        response = super().file_response(*args, **kwargs)  # type: ignore[arg-type]
        scope = args[2]
        assert isinstance(scope, dict)
        response.headers["Cache-Control"] = _caching(scope)
        return response


def _caching(scope: Scope) -> str:
    return "public, max-age=31536000, immutable" if scope["query_string"] else "no-cache"


def install(app: FastAPI) -> None:
    """Add every page to the application.  Call it after the API, whose errors stay as they are."""
    for module in (
        overview,
        jobs,
        saved_views,
        job,
        failures,
        flows,
        schedule_form,
        schedules,
        queues,
        workers,
        limits,
        operations,
        audit,
        accounts,
        settings,
        preferences,
    ):
        app.include_router(module.router, include_in_schema=False)
    app.mount("/static", _Assets(directory=STATIC), name="static")
    app.state.login_form = login.form
    failing.install(app)

"""/api/v1: a module for each resource, handlers of a few lines over control/ and the ledger's readers.

router.py      what all routes have in common
models.py      what comes in and goes out
document.py    the OpenAPI document
"""

from fastapi import FastAPI

from dashboard.api import (
    accounts,
    audit,
    circuits,
    dead,
    document,
    failures,
    feed,
    flows,
    graphql,
    health,
    jobs,
    limits,
    live,
    migrations,
    operations,
    overview,
    queues,
    road,
    saved_views,
    schedules,
    system,
    theo,
    workers,
)
from settings import Settings

PATH = "/api/v1"
_PARTS = (
    overview,
    health,
    jobs,
    dead,
    failures,
    operations,
    queues,
    workers,
    schedules,
    flows,
    limits,
    circuits,
    migrations,
    audit,
    accounts,
    saved_views,
    feed,
    live,
    road,
    system,
)


def install(app: FastAPI, settings: Settings) -> None:
    """Add the API's routes, and its document."""
    for part in _PARTS:
        app.include_router(part.router, prefix=PATH)
    app.include_router(theo.router, prefix="/api")
    app.include_router(graphql.router)
    document.install(app, settings)

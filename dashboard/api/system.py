"""The system itself: is it there, who asks, what may be asked."""

from typing import Any

from fastapi import Request
from pydantic import BaseModel, Field

from dashboard.api.router import Routes
from dashboard.security import principal
from dashboard.services import Opened

router = Routes(tags=["system"])


class Ready(BaseModel):
    ready: bool


class Me(BaseModel):
    """Who asks."""

    name: str
    role: str
    queues: list[str] | None = Field(description="The only queues they may see and change; null: all.")


@router.get("/ready")
def get_ready(opened: Opened) -> Ready:
    """Whether requests can be answered: the ledger is there.  For load balancers."""
    opened.queries.database_time()
    return Ready(ready=True)


@router.get("/me")
def get_me(request: Request) -> Me:
    """Who asks, and as what."""
    found = principal(request)
    return Me(name=found.name, role=found.role, queues=list(found.queues) or None)


@router.get("/openapi.json")
def get_openapi(request: Request) -> dict[str, Any]:
    """This document."""
    document: dict[str, Any] = request.app.openapi()
    return document

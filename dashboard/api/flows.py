"""Flows, the runs of workflows."""

from typing import Annotated, Any

from fastapi import Query
from pydantic import BaseModel, Field

from control import flows as verbs
from dashboard.api import shown
from dashboard.api.models import After, Asks, Input, Limit, Name, Page, page
from dashboard.api.router import Routes
from dashboard.security import By
from dashboard.services import Opened
from errors import IllegalTransition
from ledger.flows.states import FlowState
from ledger.flows.views import FlowRow, FlowView

router = Routes(tags=["flows"])


class Stopped(BaseModel):
    state: FlowState = Field(description="`cancelling` while jobs run that were asked to stop.")


class GoesOn(BaseModel):
    steps: list[str] = Field(description="Those that have new jobs.")


class Signal(Input):
    """What a waiting step gets."""

    data: Any = None


class Signalled(BaseModel):
    flow: str
    signal: str


@router.get("/flows")
def list_flows(
    opened: Opened,
    workflow: Annotated[Name | None, Query(description="Of this workflow.")] = None,
    state: Annotated[FlowState | None, Query(description="In this state.")] = None,
    after: After = None,
    limit: Limit = 50,
) -> Page[FlowRow]:
    """List flows, newest first."""
    rows = opened.queries.flows(name=workflow, state=state, limit=limit + 1, before=after)
    return page(rows, limit, rows[limit - 1].id if len(rows) > limit else None)


@router.get("/flows/{id}")
def get_flow(opened: Opened, asks: Asks, id: Name) -> FlowView:
    """Show a flow: its steps, what each waits for, and what failed."""
    return shown.flow(verbs.find(opened.queries, id), asks)


@router.post("/flows/{id}/cancel")
def cancel_flow(opened: Opened, by: By, id: Name) -> Stopped:
    """Cancel a flow with all its jobs."""
    with opened.session() as session:
        return Stopped(state=verbs.cancel(session, opened.queries, id, by=by))


@router.post("/flows/{id}/retry")
def retry_flow(opened: Opened, by: By, id: Name) -> GoesOn:
    """Let a failed or cancelled flow go on from where it stopped."""
    with opened.session() as session:
        return GoesOn(steps=verbs.retry(session, opened.queries, id, by=by))


@router.post("/flows/{id}/signals/{signal}")
def signal_flow(opened: Opened, by: By, id: Name, signal: Name, given: Signal) -> Signalled:
    """Give a flow the signal a step of it waits for, or is going to."""
    with opened.session() as session:
        first = verbs.signal(session, opened.queries, id, signal, given.data, by=by)
    if not first:
        raise IllegalTransition(f"flow {id} is over, or has a signal {signal!r} already; the first one counts")
    return Signalled(flow=id, signal=signal)

"""Flows, the runs of workflows: a list, and one drawn as a graph."""

import json
from typing import Final

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from control import flows as verbs
from dashboard.api import shown
from dashboard.pages import graph
from dashboard.pages.forms import Act, Field, Verb, offer, offered
from dashboard.pages.reading import asked
from dashboard.pages.rendering import Shell, page
from dashboard.security import allow, principal
from dashboard.services import Opened
from errors import BadInput, IllegalTransition
from ledger.flows.graph import Kind
from ledger.flows.states import OVER, FlowState, StepState

router = APIRouter()

_PAGE: Final = 50


def _cancel(act: Act) -> str:
    with act.services.session() as session:
        state = verbs.cancel(session, act.services.queries, act.key, by=act.by)
    return "It is cancelled" if state is FlowState.CANCELLED else "Its running jobs were asked to stop"


def _retry(act: Act) -> str:
    with act.services.session() as session:
        steps = verbs.retry(session, act.services.queries, act.key, by=act.by)
    return f"It goes on with {', '.join(steps)}"


def _signal(act: Act) -> str:
    try:
        data = json.loads(act.text("data", "null"))
    except ValueError:
        raise BadInput(f"the data {act.text('data')!r} is no JSON; a text needs quotes") from None
    name = act.text("name")
    with act.services.session() as session:
        first = verbs.signal(session, act.services.queries, act.key, name, data, by=act.by)
    if not first:
        raise IllegalTransition(f"it is over, or has a signal {name!r} already; the first one counts")
    return f"It has the signal {name}"


VERBS: Final = (
    Verb("retry", "retry_flow", "Retry", _retry),
    Verb(
        "cancel",
        "cancel_flow",
        "Cancel",
        _cancel,
        say="Jobs that run are asked to stop; steps that have not begun never will.",
        danger=True,
    ),
    Verb(
        "signal",
        "signal_flow",
        "Signal",
        _signal,
        say="A step that waits for this signal goes on, and returns the data.",
        fields=(Field("name", "Signal"), Field("data", "Data", "as JSON", "null", required=False)),
    ),
)
offer(router, "/flows", "flow", VERBS)


@router.get("/flows", dependencies=[Depends(allow("list_flows"))])
def flows(request: Request, opened: Opened, name: str = "", state: str = "", before: str = "") -> Response:
    chosen = next((one for one in FlowState if one == state), None)
    rows = asked(request, opened).flows(name=name or None, state=chosen, limit=_PAGE, before=before or None)
    return page(
        request,
        "flows.html",
        title="Flows",
        topics="flows,jobs",
        rows=rows,
        states=list(FlowState),
        name=name,
        state=chosen,
        before=before,
        more=rows[-1].id if len(rows) == _PAGE else "",
    )


@router.get("/flows/{id}", dependencies=[Depends(allow("get_flow"))])
def flow(request: Request, opened: Opened, id: str) -> Response:
    found = shown.flow(verbs.find(asked(request, opened), id), principal(request))
    waits = [x for x in found.steps if x.kind == Kind.WAIT and x.state in (StepState.RUNNING, StepState.WAITING)]
    names = ["cancel"] if found.state not in OVER else ["retry"] if found.state != FlowState.COMPLETED else []
    return page(
        request,
        "flow.html",
        title=found.name,
        topics="flows,jobs",
        flow=found,
        drawn=graph.draw(found.steps, Shell(request).url),
        offered=offered(request, VERBS, *(["signal"] if waits and found.state not in OVER else []), *names),
        over=found.state in OVER,
    )

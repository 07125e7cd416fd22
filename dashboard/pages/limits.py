"""What holds jobs back: rates, how many may run at once, sequences, circuits."""

from typing import Final

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from broker import catalogue, knobs
from control import circuits as circuit_verbs
from control import limits as verbs
from dashboard.pages.forms import Act, Field, Verb, offer, offered
from dashboard.pages.reading import asked
from dashboard.pages.rendering import page
from dashboard.security import allow
from dashboard.services import Opened
from middleware.rates import Rate

router = APIRouter()

_MOST: Final = 100


def _change(act: Act) -> str:
    limit = catalogue.changed(catalogue.rule(act.services.broker, act.key), act.text("limit"))
    per_s = limit.per_s if isinstance(limit, Rate) else 0.0
    verbs.change(act.services.control, act.key, limit.count, per_s, int(act.number("burst", 1)), by=act.by)
    act.to = "/limits"
    return f"{act.key} is {limit} from now on"


def _restore(act: Act) -> str:
    was = verbs.restore(act.services.control, act.key, by=act.by)
    act.to = "/limits"
    return f"{act.key} goes by the code again" if was else f"{act.key} was not changed"


def _release(act: Act) -> str:
    was = verbs.release(act.services.control, act.key, by=act.by)
    act.to = "/limits"
    return f"{act.key} is released" if was else f"{act.key} had nothing to wait for"


VERBS: Final = (
    Verb(
        "change",
        "change_limit",
        "Change",
        _change,
        say="It holds for all workers from now on, until it is restored to what the code says.",
        fields=(
            Field("limit", "Limit", "10/s, 100/5m, or a number: so many at once"),
            Field(
                "burst",
                "Burst",
                "of a rate: so many at once after a pause",
                kind="number",
                required=False,
            ),
        ),
    ),
    Verb("restore", "restore_limit", "Restore", _restore),
    Verb(
        "release",
        "release_limit",
        "Release",
        _release,
        say="What it let through is forgotten: jobs start at once.",
    ),
)
offer(router, "/limits", "limit", VERBS)


def _open(act: Act) -> str:
    catalogue.demand_circuit(act.services.broker, act.key)
    circuit_verbs.hold_open(act.services.control, act.key, act.number("seconds", 300), by=act.by)
    act.to = "/limits"
    return f"{act.key} is open: no job that uses it starts"


def _close(act: Act) -> str:
    catalogue.demand_circuit(act.services.broker, act.key)
    circuit_verbs.close(act.services.control, act.key, by=act.by)
    act.to = "/limits"
    return f"{act.key} is closed; the jobs it put off come back"


CIRCUIT_VERBS: Final = (
    Verb(
        "open",
        "open_circuit",
        "Open",
        _open,
        say="No job that uses it starts for so long; then one is let through to see.",
        fields=(Field("seconds", "Seconds", value="300", kind="number"),),
        danger=True,
    ),
    Verb("close", "close_circuit", "Close", _close),
)
offer(router, "/circuits", "circuit", CIRCUIT_VERBS)


@router.get("/limits", dependencies=[Depends(allow("list_limits"))])
def limits(request: Request, opened: Opened) -> Response:
    queries = asked(request, opened)
    changed, rates, gates = verbs.listing(queries, _MOST)
    now = {rule.rule: rule for rule in changed}
    used = catalogue.circuits(opened.broker)
    stand = {
        x.name: x for x in circuit_verbs.listing(queries, {name: use[0].rule.within for name, use in used.items()})
    }
    return page(
        request,
        "limits.html",
        title="Limits and circuits",
        topics="jobs,queues",
        rules=[(name, limit, now.get(name)) for name, limit in sorted(catalogue.rules(opened.broker).items())],
        queues=knobs.changed(opened.broker, queries),
        rates=rates,
        gates=gates,
        circuits=[(x, used[x][1] if x in used else (), stand.get(x)) for x in sorted(used.keys() | stand.keys())],
        verbs={verb.name: verb for verb in offered(request, VERBS, "change", "restore", "release")},
        circuit_verbs={verb.name: verb for verb in offered(request, CIRCUIT_VERBS, "open", "close")},
    )


@router.get("/limits/{key:path}", dependencies=[Depends(allow("list_limits"))])
@router.get("/circuits/{key:path}", dependencies=[Depends(allow("list_circuits"))])
def one(request: Request, opened: Opened, key: str) -> Response:
    """They have no page of their own."""
    return limits(request, opened)

"""Circuit breakers."""

from pydantic import BaseModel, Field

from broker import catalogue
from control import circuits as verbs
from dashboard.api.models import Input, Name
from dashboard.api.router import Routes
from dashboard.security import By
from dashboard.services import Opened
from ledger.views import CircuitView

router = Routes(tags=["circuits"])


class Circuit(BaseModel):
    """A circuit breaker, and how it stands."""

    name: str
    actors: list[str] = Field(description="Those that use it.")
    stands: CircuitView | None = Field(description="null: it was never used.")


class Hold(Input):
    for_s: float = Field(default=3600.0, gt=0, le=31_536_000, description="How long nothing is tried.")


class Switched(BaseModel):
    circuit: str
    open: bool


@router.get("/circuits")
def list_circuits(opened: Opened) -> list[Circuit]:
    """List the circuits: how they stand, since when and why."""
    used = catalogue.circuits(opened.broker)
    views = verbs.listing(opened.queries, {name: use[0].rule.within for name, use in used.items()})
    stands = {view.name: view for view in views}
    return [
        Circuit(name=name, actors=used[name][1] if name in used else [], stands=stands.get(name))
        for name in sorted(used.keys() | stands.keys())
    ]


@router.post("/circuits/{circuit}/open")
def open_circuit(opened: Opened, by: By, circuit: Name, given: Hold) -> Switched:
    """Start no job that uses this circuit, for so long; then one probes."""
    catalogue.demand_circuit(opened.broker, circuit)
    verbs.hold_open(opened.control, circuit, given.for_s, by=by)
    return Switched(circuit=circuit, open=True)


@router.post("/circuits/{circuit}/close")
def close_circuit(opened: Opened, by: By, circuit: Name) -> Switched:
    """Let its jobs start again, and forget which calls failed."""
    catalogue.demand_circuit(opened.broker, circuit)
    verbs.close(opened.control, circuit, by=by)
    return Switched(circuit=circuit, open=False)

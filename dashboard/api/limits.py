"""Limits: how fast jobs may start, and how many run at once."""

from typing import Annotated

from fastapi import Query
from pydantic import BaseModel, Field

from broker import catalogue, knobs
from broker.knobs import KnobView
from control import limits as verbs
from dashboard.api.models import Input, Name
from dashboard.api.router import Routes, may
from dashboard.security import By
from dashboard.services import Opened
from errors import NotFound
from ledger.views import GateView, LimitView, RuleView
from middleware.concurrency import Concurrency
from middleware.rates import Rate

router = Routes(tags=["limits"])


class Rule(BaseModel):
    """A limit, as the code has it, and as an operator has changed it."""

    rule: str
    limit: str = Field(examples=["10/s", "3"])
    changed: RuleView | None


class Limits(BaseModel):
    rules: list[Rule]
    queues: dict[str, list[KnobView]] = Field(description="What operators have changed of whole queues.")
    waiting: list[LimitView] = Field(description="The rates with the longest to wait.")
    blocked: list[GateView] = Field(description="The limits and sequences for which the most jobs wait.")


class NewLimit(Input):
    limit: Name = Field(description="So many starts in a time, or so many at once.", examples=["100/5m", "3"])
    burst: int = Field(default=1, ge=1, le=1_000_000, description="Starts that may come at once after a pause.")


class Changed(BaseModel):
    rule: str
    limit: str = Field(description="What counts now.")


@router.get("/limits")
def list_limits(
    opened: Opened, most: Annotated[int, Query(ge=1, le=1000, description="At most so many that wait.")] = 20
) -> Limits:
    """List the limits, and what waits for them."""
    changed, waiting, gates = verbs.listing(opened.queries, most)
    now = {rule.rule: rule for rule in changed}
    rules = [
        Rule(rule=name, limit=str(limit), changed=now.get(name))
        for name, limit in sorted(catalogue.rules(opened.broker).items())
    ]
    queues = knobs.changed(opened.broker, opened.queries)
    return Limits(rules=rules, queues=queues, waiting=waiting, blocked=gates)


@router.put("/limits/{rule}")
def change_limit(opened: Opened, by: By, rule: Name, given: NewLimit) -> Changed:
    """Let jobs start at another rate, or more or fewer run at once, from now on."""
    wanted = catalogue.changed(catalogue.rule(opened.broker, rule), given.limit)
    per_s = wanted.per_s if isinstance(wanted, Rate) else 0.0
    verbs.change(opened.control, rule, wanted.count, per_s, given.burst, by=by)
    return Changed(rule=rule, limit=str(wanted))


@router.delete("/limits/{rule}")
def restore_limit(opened: Opened, by: By, rule: Name) -> Changed:
    """Go by the limit in the code again."""
    known: Rate | Concurrency = catalogue.rule(opened.broker, rule)
    verbs.restore(opened.control, rule, by=by)
    return Changed(rule=rule, limit=str(known))


class Key(Input):
    key: Name = Field(description="One limit, as the list shows it.")


@router.post("/limits/release", responses=may(404))
def release_limit(opened: Opened, by: By, given: Key) -> Key:
    """Forget what a limit has let through: its next job starts at once."""
    if not verbs.release(opened.control, given.key, by=by):
        raise NotFound(f"nothing waits for a limit {given.key!r}; the list of limits shows those that do")
    return given

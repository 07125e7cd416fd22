"""Whether all is well, and what is told when it is not."""

from typing import Annotated

from fastapi import Query
from pydantic import BaseModel, Field

from control import alerts as verbs
from control.health import Health, Rules, check
from dashboard.api.models import Input, Limit, Text
from dashboard.api.router import Routes
from dashboard.security import By
from dashboard.services import Opened
from ledger.alerts import AlertChange, AlertView, DeliveryView, Level
from settings import HEALTH

router = Routes(tags=["health"])


class Alerts(BaseModel):
    standing: list[AlertView] = Field(description="What is not well, or is muted; the worst first.")
    changes: list[AlertChange] = Field(description="What became worse or better lately, newest first.")
    deliveries: list[DeliveryView] = Field(description="What was told lately, to whom, and what is still to be.")


class Rule(Input):
    """One thing that is judged."""

    queue: Text = Field(default="", max_length=200, description="Empty: of the whole system.", examples=["webhooks"])
    rule: Text = Field(max_length=60, description=", ".join(HEALTH), examples=["waiting"])


class Mute(Rule):
    for_s: float = Field(default=3600.0, gt=0, le=31_536_000, description="For so long nothing is told of it.")


class Muted(BaseModel):
    queue: str
    rule: str
    muted: bool


@router.get("/health")
def get_health(opened: Opened, everything: Annotated[bool, Query(description="Also what is well.")] = False) -> Health:
    """Judge every queue, the workers, schedules and duties by their thresholds, and say what is wrong in words."""
    names = sorted(opened.broker.get_declared_queues())
    found = check(opened.queries, opened.schedules, Rules.of(opened.settings), names=names)
    shown = [one for one in found.findings if everything or one.level is not Level.OK]
    return Health(found.at, found.level, shown)


@router.get("/alerts")
def list_alerts(opened: Opened, limit: Limit = 50) -> Alerts:
    """List what is not well or muted, and the last changes and messages: as workers and schedulers judged it."""
    asked = opened.queries
    changes, deliveries = verbs.history(asked, limit), verbs.recent(asked, limit)
    return Alerts(standing=verbs.listing(asked), changes=changes, deliveries=deliveries)


@router.post("/alerts/mute")
def mute_alert(opened: Opened, by: By, given: Mute) -> Muted:
    """Tell nothing of this for so long; what is different then from what was told last is told."""
    verbs.mute(opened.control, given.queue, given.rule, given.for_s, by=by)
    return Muted(queue=given.queue, rule=given.rule, muted=True)


@router.post("/alerts/unmute")
def unmute_alert(opened: Opened, by: By, given: Rule) -> Muted:
    """Tell of this again."""
    verbs.mute(opened.control, given.queue, given.rule, 0.0, by=by)
    return Muted(queue=given.queue, rule=given.rule, muted=False)

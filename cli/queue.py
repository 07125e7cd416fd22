"""One queue, whole: its jobs in the ledger, its messages in RabbitMQ."""

from collections.abc import Mapping
from dataclasses import dataclass

from broker import catalogue
from broker.broker import Broker
from cli.opened import queries
from cli.shown import as_json, duration, moment, say
from control.road import QueueRoad, Road
from ledger.states import State
from ledger.views import QueueView
from rabbitmq.topology import DEAD_LETTERS
from settings import Settings


@dataclass(frozen=True)
class Shown:
    queue: QueueView
    road: QueueRoad | None  #: null: the ledger carries the jobs itself
    dead_letters: QueueRoad | None


def show_queue(settings: Settings, broker: Broker, name: str, *, json: bool) -> None:
    """Print it; RabbitMQ is asked now.  Raises ``NotFound``."""
    with queries(settings) as asked:
        view = catalogue.queue(broker, asked, name)
        road = dead = None
        if settings.broker_url:
            watch = Road(settings, settings.broker_url, asked, lambda: sorted(broker.get_declared_queues()))
            watch.look()
            road, dead = watch.queues([name, name + DEAD_LETTERS])
    if json:
        return as_json(Shown(view, road, dead))
    for fact, value in _facts(view, road, dead).items():
        if value:
            say(f"{fact:<16}{value}")


def _facts(view: QueueView, road: QueueRoad | None, dead: QueueRoad | None) -> Mapping[str, object]:
    paused = f"since {moment(view.paused_at)} by {view.paused_by}" if view.paused_at else view.paused and "yes"
    facts: dict[str, object] = {"queue": view.name, "paused": paused}
    facts |= {str(state): view.counts.get(state) for state in State}
    facts["oldest waiting"] = duration(view.oldest_waiting_s)
    if road is not None and dead is not None:
        facts |= {"in RabbitMQ": road.words, "dead letters": dead.words, "why": road.why, "there": road.link}
        facts["differs"] = "; ".join([*road.faults, *(f"{dead.name}: {fault}" for fault in dead.faults)])
    return facts

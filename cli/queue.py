"""One queue, whole: its jobs in the ledger, what it goes by, its messages in RabbitMQ."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from broker import catalogue, knobs
from broker.broker import Broker
from broker.knobs import KnobView
from cli.opened import queries
from cli.shown import as_json, duration, moment, say, table
from control.queues import stats
from control.road import QueueRoad, Road
from ledger.queue_stats import QueueStats
from ledger.states import State
from rabbitmq.topology import DEAD_LETTERS
from settings import Settings


@dataclass(frozen=True)
class Shown:
    stats: QueueStats
    knobs: Sequence[KnobView]
    road: QueueRoad | None  #: null: the ledger carries the jobs itself
    dead_letters: QueueRoad | None


def show_queue(settings: Settings, broker: Broker, name: str, *, json: bool) -> None:
    """Print it; RabbitMQ is asked now.  Raises ``NotFound``."""
    with queries(settings) as asked:
        catalogue.queue(broker, asked, name)
        [counted] = stats(asked, only=[name])
        goes_by = knobs.of_queue(broker, asked, name)
        road = dead = None
        if settings.broker_url:
            watch = Road(settings, settings.broker_url, asked, lambda: sorted(broker.get_declared_queues()))
            watch.look()
            road, dead = watch.queues([name, name + DEAD_LETTERS])
    if json:
        return as_json(Shown(counted, goes_by, road, dead))
    for fact, value in _facts(counted, road, dead).items():
        if value not in (None, ""):
            say(f"{fact:<16}{value}")
    print()
    table(
        ("knob", "now", "code", "changed", "by"),
        [(x.knob, _said(x.now), _said(x.code), x.changed_at, x.changed_by) for x in goes_by],
    )


def _facts(x: QueueStats, road: QueueRoad | None, dead: QueueRoad | None) -> Mapping[str, object]:
    facts: dict[str, object] = {
        "queue": x.name,
        "paused": _since(x.paused_at, x.paused_by),
        "draining": _since(x.draining_at, x.draining_by),
        **counts(x),
        "oldest waiting": duration(x.oldest_waiting_s),
        "24 hours": f"{x.completed_24h} completed, {x.failed_24h} failed",
        "run": _spread(x.mean_run_s, x.p95_run_s),
        "wait": _spread(x.mean_wait_s, x.p95_wait_s),
        "pace": f"{x.per_s:.2f} jobs/s" + (f", empty in {duration(x.drain_s)}" if x.drain_s else ""),
    }
    if road is not None and dead is not None:
        facts |= {"in RabbitMQ": road.words, "dead letters": dead.words, "why": road.why, "there": road.link}
        facts["differs"] = "; ".join([*road.faults, *(f"{dead.name}: {fault}" for fault in dead.faults)])
    return facts


def counts(x: QueueStats) -> dict[str, str]:
    """With a + where there are too many to be counted to their end."""
    numbers = {
        State.WAITING: x.waiting,
        State.ACTIVE: x.active,
        State.DELAYED: x.delayed,
        State.COMPLETED: x.completed,
        State.FAILED: x.failed,
    }
    return {state: f"{number}{'+' if state in x.more else ''}" for state, number in numbers.items()}


def _since(at: datetime | None, by: str | None) -> str:
    return f"since {moment(at)} by {by}" if at else ""


def _spread(mean_s: float | None, p95_s: float | None) -> str:
    return "" if mean_s is None else f"{duration(mean_s)} on average, 95 of 100 within {duration(p95_s)}"


def _said(value: int | str | None) -> object:
    return "no limit" if value is None else value

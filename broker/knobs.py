"""What each queue goes by: what the code says, and what operators have changed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from ledger.orders import Knob, knob_of, rule_of
from middleware.concurrency import ConcurrencyLimits
from middleware.limits import Limits
from middleware.rates import Rate

if TYPE_CHECKING:
    from broker.broker import Broker
    from ledger.queries import Queries


@dataclass(frozen=True)
class KnobView:
    """One knob of one queue."""

    knob: Knob
    code: int | str | None  #: what the code says; None: no limit
    now: int | str | None  #: what counts
    changed_at: datetime | None = None  #: by an operator; None: the code's counts
    changed_by: str | None = None


def of_queue(broker: "Broker", asked: "Queries", queue: str) -> list[KnobView]:
    """The knobs of one queue, in their order."""
    return of_queues(broker, asked, [queue])[queue]


def of_queues(broker: "Broker", asked: "Queries", queues: Sequence[str]) -> dict[str, list[KnobView]]:
    """The same of many, asked once."""
    changed = {rule.rule: rule for rule in asked.changed_rules()}
    found = {}
    for queue in queues:
        views = []
        for knob, code in declared(broker, queue).items():
            rule = changed.get(rule_of(knob, queue))
            if rule is None:
                views.append(KnobView(knob, code, code))
            else:
                now = _rate(rule.count, rule.per_s) if knob is Knob.RATE else int(rule.count)
                views.append(KnobView(knob, code, now, rule.changed_at, rule.changed_by))
        found[queue] = views
    return found


def changed(broker: "Broker", asked: "Queries") -> dict[str, list[KnobView]]:
    """Of the queues that whoever asks may see, the knobs that operators have changed."""
    named = {found[1] for rule in asked.changed_rules() if (found := knob_of(rule.rule))}
    known = of_queues(broker, asked, sorted(filter(asked.scope.admits, named)))
    return {queue: [view for view in views if view.changed_at] for queue, views in known.items()}


def declared(broker: "Broker", queue: str) -> Mapping[Knob, int | str | None]:
    """What the catalogue and the settings say."""
    rates: Mapping[str, Rate] = next(x for x in broker.middleware if isinstance(x, Limits)).queues
    gates = next(x for x in broker.middleware if isinstance(x, ConcurrencyLimits)).rules
    gate = gates.get(rule_of(Knob.MAX_RUNNING, queue))
    return {
        Knob.CONCURRENCY: broker.concurrency.code(queue),
        Knob.RATE: _rate(rates[queue].count, rates[queue].per_s) if queue in rates else None,
        Knob.MAX_RUNNING: gate.count if gate is not None else None,
        Knob.MAX_WAITING: broker.room.code.get(queue),
    }


def _rate(count: float, per_s: float) -> str:
    """As it is set: 10/s, 100/5m."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
        if per_s % length == 0 or unit == "s":
            number = per_s / length
            return f"{count:g}/{unit}" if number == 1 else f"{count:g}/{number:g}{unit}"
    raise AssertionError("unreachable")

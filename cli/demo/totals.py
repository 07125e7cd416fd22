"""What a run of the demo must come to, worked out from its events alone; and what it did come to."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from typing import Any

from actors.events import CompletionEvent, InvalidEvent
from actors.posthog import uuid_of
from actors.prices import UnknownModel, cost


@dataclass
class Totals:
    """The figures that are the same on every road and every database."""

    events: int = 0
    jobs: dict[str, dict[str, int]] = field(default_factory=dict)  #: actor -> state -> how many
    dead: dict[str, int] = field(default_factory=dict)  #: error -> how many
    turned_away: dict[str, int] = field(default_factory=dict)  #: HTTP status -> how many requests PostHog refused
    delivered: int = 0  #: distinct events PostHog has
    stored: int = 0  #: distinct requests
    cost: Decimal = Decimal(0)  #: US dollars
    cost_by_model: dict[str, Decimal] = field(default_factory=dict)
    cost_by_customer: dict[str, Decimal] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Plain data; amounts as text, for they are exact."""

        def plain(value: Any) -> Any:
            if isinstance(value, Decimal):
                return f"{value.normalize():f}"
            return {key: plain(value[key]) for key in sorted(value)} if isinstance(value, dict) else value

        return {name: plain(value) for name, value in asdict(self).items()}

    def differences(self, other: "Totals") -> list[str]:
        """One line for each figure in which ``other`` is not as this."""
        mine, theirs = self.as_json(), other.as_json()
        return [f"{name}: expected {mine[name]}, got {theirs[name]}" for name in mine if mine[name] != theirs[name]]


def busy_plan(requests: Mapping[str, str]) -> dict[str, list[int]]:
    """Which uuids PostHog turns away at first, and with what: about eight in a hundred.

    ``requests``: uuid by the request id as it stands in the file, so that every run meets the same refusals.
    """
    plan = {}
    for request, uuid in requests.items():
        share = int.from_bytes(hashlib.sha256(request.encode()).digest()[:4], "big") % 100
        if share < 8:
            plan[uuid] = [503] if share < 4 else [429] if share < 7 else [503, 503]
    return plan


def expected(events: Sequence[Mapping[str, Any]], busy: Mapping[str, Sequence[int]]) -> Totals:
    """The totals that these events must come to, when PostHog turns them away as ``busy`` says."""
    jobs: Counter[tuple[str, str]] = Counter()  # in the order of a job's way
    dead: Counter[str] = Counter()
    costs: dict[str, tuple[CompletionEvent, Decimal]] = {}
    stored: set[str] = set()
    for raw in events:
        try:
            completion = CompletionEvent.parse(raw)
        except InvalidEvent:
            jobs["track_llm_usage", "failed"] += 1
            dead[InvalidEvent.__name__] += 1
            continue
        stored.add(completion.request_id)
        jobs["track_llm_usage", "completed"] += 1
        jobs["send_to_posthog", "completed"] += 1
        try:
            costs[completion.request_id] = completion, cost(completion)
        except UnknownModel:
            jobs["calculate_costs", "failed"] += 1
            dead[UnknownModel.__name__] += 1
        else:
            jobs["calculate_costs", "completed"] += 1
    refused = Counter(str(status) for request in stored for status in busy.get(uuid_of(request), ()))
    return Totals(
        events=len(events),
        jobs=nested(jobs),
        dead=dict(dead),
        turned_away=dict(refused),
        delivered=len(stored),
        stored=len(stored),
        **sums((event.customer, event.provider, event.model, amount) for event, amount in costs.values()),
    )


def nested(counts: Mapping[tuple[str, str], int]) -> dict[str, dict[str, int]]:
    """``{(a, b): n}`` as ``{a: {b: n}}``."""
    tree: dict[str, dict[str, int]] = {}
    for (outer, inner), count in counts.items():
        tree.setdefault(outer, {})[inner] = count
    return tree


def sums(rows: Iterable[tuple[str, str, str, Decimal]]) -> dict[str, Any]:
    """The three costs of :class:`Totals`, of (customer, provider, model, amount) rows."""
    total, models, customers = Decimal(0), dict[str, Decimal](), dict[str, Decimal]()
    for customer, provider, model, amount in rows:
        total += amount
        name = f"{provider}/{model}"
        models[name] = models.get(name, Decimal(0)) + amount
        customers[customer] = customers.get(customer, Decimal(0)) + amount
    return {"cost": total, "cost_by_model": models, "cost_by_customer": customers}

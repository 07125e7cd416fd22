"""What a run of the demo must come to."""

from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from actors.posthog import uuid_of
from cli.demo.drive import demand_alone, read, tagged, uuids
from cli.demo.generate import EVENTS, generate
from cli.demo.totals import Totals, busy_plan, expected
from errors import BadInput
from ledger import open_ledger

GOOD: dict[str, Any] = {
    "request_id": "req_1",
    "customer": "northwind",
    "user": "ada",
    "provider": "openai",
    "model": "gpt-4o",
    "input_tokens": 1000,
    "output_tokens": 100,
    "cached_tokens": 400,
    "latency_ms": 1200,
    "at": "2026-11-01T00:30:00+00:00",
}
TWICE = GOOD
UNSOLD = GOOD | {"request_id": "req_2", "model": "unheard-of"}
MALFORMED = GOOD | {"request_id": "req_3", "user": None}


def test_a_duplicate_is_run_again_but_stored_charged_and_delivered_once() -> None:
    totals = expected([GOOD, TWICE, UNSOLD, MALFORMED], {uuid_of("req_1"): [503, 429]})

    assert totals == Totals(
        events=4,
        jobs={
            "track_llm_usage": {"completed": 3, "failed": 1},
            "send_to_posthog": {"completed": 3},
            "calculate_costs": {"completed": 2, "failed": 1},
        },
        dead={"InvalidEvent": 1, "UnknownModel": 1},
        turned_away={"503": 1, "429": 1},
        delivered=2,
        stored=2,
        cost=Decimal("0.003"),
        cost_by_model={"openai/gpt-4o": Decimal("0.003")},
        cost_by_customer={"northwind": Decimal("0.003")},
    )


def test_a_figure_that_is_off_is_named_with_both_values() -> None:
    must, did = expected([GOOD], {}), expected([GOOD], {})
    did.delivered, did.cost = 0, Decimal("0.002")

    assert must.differences(must) == []
    assert must.differences(did) == ["delivered: expected 1, got 0", "cost: expected 0.003, got 0.002"]


def test_the_bundled_events_are_those_the_generator_writes() -> None:
    assert read(None) == generate()
    assert len(EVENTS.read_text().splitlines()) == 3_000


def test_a_few_bundled_events_are_odd() -> None:
    totals = expected(read(None), {})

    assert totals.dead == {"InvalidEvent": 30, "UnknownModel": 30}
    assert totals.stored == 3_000 - 30 - 15  # malformed; reported twice
    assert len(totals.cost_by_model) >= 10
    assert len(totals.cost_by_customer) == 8


def test_every_run_meets_the_same_refusals_though_its_request_ids_are_new() -> None:
    plans = []
    for run in ("demo-1", "demo-2"):
        plan = busy_plan(uuids([tagged(event, run) for event in read(None)], run))
        plans.append(Counter(tuple(statuses) for statuses in plan.values()))

    assert plans[0] == plans[1]
    assert set(plans[0]) == {(503,), (429,), (503, 503)}
    assert plans[0].total() == pytest.approx(0.08 * 2955, rel=0.25)


def test_the_demo_begins_only_where_nobody_else_would_take_its_jobs(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    demand_alone(url)
    session = open_ledger(url, road="embedded").session("test")
    worker = session.join(host="here", pid=1, queues=["usage-tracking"], threads=1, version="0")
    with pytest.raises(BadInput, match=rf"workers are at work on this ledger \({worker}\)"):
        demand_alone(url)
    session.leave(worker)
    session.close()
    demand_alone(url)

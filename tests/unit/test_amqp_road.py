"""What becomes of a delivery whose way ends early; no RabbitMQ is asked."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from broker import build
from broker.amqp import AmqpRoad
from broker.intake import Intake
from broker.work import WorkQueue
from ledger.records import Claim, Verdict
from settings import Settings


@dataclass
class Handed:
    """A delivery that notes how it was answered."""

    queue: str = "work"
    body: bytes = b"{}"
    message_id: str | None = None
    headers: dict[str, Any] = field(default_factory=dict)
    priority: int | None = None
    user: str | None = None
    answers: list[str] = field(default_factory=list)

    def ack(self) -> None:
        self.answers.append("ack")

    def reject(self) -> None:
        self.answers.append("reject")


def broken(*_: Any) -> None:
    raise RuntimeError("can't start new thread")


@pytest.fixture
def road(tmp_path: Path) -> AmqpRoad:
    broker = build(Settings(database_url=f"sqlite:///{tmp_path / 'h.db'}", broker_url="amqp://127.0.0.1:1/"))
    assert isinstance(broker.road, AmqpRoad)
    broker.road.start(WorkQueue(lambda: 0))
    return broker.road


@pytest.fixture
def intake(road: AmqpRoad) -> Intake:
    found = road.consume("work", 0.01)
    road.intakes = {"work": found}
    assert found.reserve()
    return found


def test_whatever_fails_when_a_pause_is_found_costs_no_slot(road: AmqpRoad, intake: Intake) -> None:
    road.on_found_paused = broken
    delivery = Handed()
    with pytest.raises(RuntimeError):
        road._claimed(intake, cast(Any, delivery), Claim("id", Verdict.PARK, "paused"), b"")
    assert (delivery.answers, intake.room) == (["ack"], intake.slots)


def test_a_message_that_cannot_be_handed_over_for_burial_goes_back_and_costs_no_slot(
    road: AmqpRoad, intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(road.adoption, "put", broken)
    delivery = Handed()
    with pytest.raises(RuntimeError):
        road._claimed(intake, cast(Any, delivery), Claim("id", Verdict.GONE, "gone"), b"")
    assert (delivery.answers, intake.room) == (["reject"], intake.slots)


@dataclass
class Wishes:
    """Consumers that note what is wanted of them."""

    last: dict[str, Any] = field(default_factory=dict)

    def set_prefetch(self, queue: str, prefetch: int) -> None:
        self.last["prefetch"] = prefetch

    def pause(self, queue: str) -> None:
        self.last["consuming"] = False

    def resume(self, queue: str) -> None:
        self.last["consuming"] = True


def test_a_queue_that_is_resumed_while_its_intake_rests_is_consumed_when_a_slot_is_free(
    road: AmqpRoad, intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    wishes = Wishes()
    road.consumers = cast(Any, wishes)
    monkeypatch.setattr("broker.intake.PATIENCE_S", 0.0)
    while intake.reserve():
        pass
    waiting = Handed()
    intake.reserve(waiting)
    next(intake)
    assert (wishes.last, waiting.answers) == ({"consuming": False}, ["reject"])
    road.pause(frozenset({"work"}))
    road.pause(frozenset())
    assert wishes.last == {"consuming": False}, "it has no room yet"
    intake.vacate()
    assert wishes.last == {"consuming": True, "prefetch": intake.slots}

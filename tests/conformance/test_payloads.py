"""Arguments against the actor's signature, names that changed, size."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated

import pytest
from pydantic import AliasChoices, BaseModel, Field

from errors import InvalidPayload, PayloadTooLarge
from ledger.states import Reason
from tests.conformance.system import System


class Line(BaseModel):
    sku: str
    price: Decimal


class Order(BaseModel):
    number: Annotated[int, Field(validation_alias=AliasChoices("number", "id"))]
    lines: list[Line] = []


def test_the_body_gets_the_types_its_signature_names(system: System) -> None:
    @system.actor()
    def take(order: Order, at: datetime, *more: Decimal) -> None:
        system.note((order, at, more))

    @system.actor()
    async def take_later(order: Order) -> None:
        system.note(order)

    order = Order(number=7, lines=[Line(sku="a", price=Decimal("0.1000000000000000000001"))])
    at = datetime(2026, 7, 1, 12, tzinfo=UTC)
    take.send(order, at, Decimal("1.10"))
    system.work()
    system.noted((order, at, (Decimal("1.10"),)))
    take_later.send_with_options(kwargs={"order": {"id": 8}})
    system.noted(Order(number=8))


def test_what_does_not_fit_is_refused_at_the_send_with_every_error_and_nothing_is_recorded(system: System) -> None:
    @system.actor()
    def take(order: Order, at: datetime) -> None: ...

    with pytest.raises(InvalidPayload) as refused:
        take.send({"number": "x", "lines": [{"sku": "a"}]}, "never")
    assert len(refused.value.problems) == 3
    assert system.states() == {}


def test_what_does_not_fit_when_it_arrives_is_a_dead_letter_at_once(system: System) -> None:
    old = system.another()

    @old.actor(actor_name="take")
    def take_anything(amount) -> None: ...  # type: ignore[no-untyped-def]

    @system.actor(max_retries=5)
    def take(amount: Decimal) -> None:
        system.note("ran")

    message = take_anything.send("much")
    system.work()
    assert system.finished(1) == {"failed": 1}
    job = system.job(message)
    assert (job.reason, len(job.attempts), system.notes) == (Reason.INVALID_PAYLOAD, 1, [])
    assert "amount" in (job.attempts[0].error_message or "")


def test_what_was_queued_before_a_deploy_runs_after_it(system: System) -> None:
    old = system.another()

    @old.actor()
    def bill(client, amount) -> None: ...  # type: ignore[no-untyped-def]

    @system.actor(aliases=["bill"])
    def charge(
        customer: Annotated[str, Field(validation_alias=AliasChoices("client"))], amount: Decimal, currency: str = "EUR"
    ) -> None:
        system.note((customer, amount, currency))

    bill.send("ada", "1.10")
    bill.send_with_options(kwargs={"client": "bob", "amount": 2}, delay=50)
    system.work()
    assert system.finished(2) == {"completed": 2}
    assert sorted(system.notes) == [("ada", Decimal("1.10"), "EUR"), ("bob", Decimal(2), "EUR")]


def test_a_payload_over_the_limit_is_refused_and_one_at_it_arrives(system: System) -> None:
    @system.actor()
    def swallow(text: str) -> None:
        system.note(len(text))

    room = 102_400 - len(swallow.message("").encode())
    with pytest.raises(PayloadTooLarge, match="102,400"):
        swallow.send("x" * (room + 1))
    swallow.send("x" * room)
    system.work()
    assert system.finished(1) == {"completed": 1}
    assert system.notes == [room]


def test_a_result_that_does_not_fit_the_next_step_is_a_dead_letter_of_that_step(system: System) -> None:
    @system.actor()
    def half(amount: Decimal) -> str:
        return str(amount / 2)

    @system.actor()
    def take(order: Order) -> None: ...

    (half.message(Decimal(3)) | take.message()).run()
    system.work()
    assert system.finished(2) == {"completed": 1, "failed": 1}
    [dead] = system.queries.dead()
    assert (dead.actor, dead.reason) == ("take", Reason.INVALID_PAYLOAD)

"""Workflows: what comes after what, whatever happens in between."""

import json
from typing import Any

import pytest
from pydantic import BaseModel

from errors import FlowFailed
from ledger.states import State
from middleware.workflow import Results, sleep, step, wait, workflow
from tests.conformance.system import System

SOON_MS = 30_000


def test_results_arrive_as_the_types_the_next_step_names(system: System) -> None:
    class Account(BaseModel):
        id: int
        name: str

    @system.actor()
    def create(user_id: int) -> Account:
        return Account(id=user_id, name="Ada")

    @system.actor()
    def load(contact: dict[str, str], create: Account) -> str:
        return f"{contact['mail']} of {create.name}"

    @system.actor()
    async def greet(create: Account, greeting: str = "Hello") -> str:
        return f"{greeting} {create.name}"

    @system.actor()
    def listed(load: list[str], greet: str) -> list[str]:
        return [greet, *load]

    @system.actor()
    def counted(load: Results) -> int:
        assert load[0] == next(iter(load))
        return len(load)

    both = workflow("w").then(create).then(step(load, each="contacts"), greet).then(listed, counted)
    flow = both.start(user_id=7, contacts=[{"mail": "x"}, {"mail": "y"}])
    system.work()
    assert flow.result(SOON_MS) == {"listed": ["Hello Ada", "x of Ada", "y of Ada"], "counted": 2}
    assert (flow.progress.done, flow.progress.total) == (6, 6)
    assert both.flow(flow.id).status() == "completed"


def test_a_step_has_the_retries_of_its_actor_and_fails_the_flow_when_they_are_spent(system: System) -> None:
    @system.actor(max_retries=1, min_backoff=10)
    def shaky(number: int) -> int:
        system.note(number)
        if number == 2 or system.notes.count(number) == 1:
            raise RuntimeError(f"no {number}")
        return number

    @system.actor()
    def after(shaky: list[int]) -> list[int]:
        system.note(shaky)
        return shaky

    each = step(shaky, each="numbers")
    strict = workflow("strict").then(each).then(after).start(numbers=[1, 2, 3])
    system.work()
    with pytest.raises(FlowFailed, match="step 'shaky': RuntimeError: no 2"):
        strict.result(SOON_MS)
    assert sorted(system.notes) == [1, 1, 2, 2, 3, 3]
    system.notes.clear()
    lenient = workflow("lenient").then(each).then(step(after, after={"shaky": "continue"})).start(numbers=[1, 2, 3])
    assert lenient.result(SOON_MS) == [1, 3]


def test_what_was_done_is_undone_and_items_each_by_themselves(system: System) -> None:
    @system.actor()
    def book(seat: str) -> str:
        return f"ticket {seat}"

    @system.actor()
    def unbook(seat: str, book: str) -> None:
        system.note(f"un{book} of {seat}")

    @system.actor()
    def pay(book: list[str]) -> int:
        return len(book)

    @system.actor()
    def repay(pay: int) -> None:
        system.note(pay)

    @system.actor(max_retries=0)
    def send(pay: int) -> None:
        raise RuntimeError("no stamps")

    booking = workflow("booking").then(step(book, each="seats", compensate=unbook)).then(step(pay, compensate=repay))
    flow = booking.then(send).start(seats=["a", "b"])
    system.work()
    with pytest.raises(FlowFailed):
        flow.result(SOON_MS)
    assert system.notes[0] == 2
    assert sorted(system.notes[1:]) == ["unticket a of a", "unticket b of b"]
    assert flow.view().progress.done == flow.view().progress.total


def test_signals_sleeps_and_conditions_hold_no_slot(system: System) -> None:
    @system.actor(queue_name="narrow")
    def is_large(amount: int) -> bool:
        return amount > 100

    @system.actor(queue_name="narrow")
    def pay(amount: int, approved: dict[str, str] | None) -> str:
        return f"{amount} by {approved['by'] if approved else 'nobody'}"

    asked = workflow("expense").then(is_large).then(wait("approved", when="is_large")).then(sleep(10)).then(pay)
    waiting = [asked.start(amount=500, key=str(n)) for n in range(3)]
    system.work()
    assert asked.start(amount=20).result(SOON_MS) == "20 by nobody", "the only slot is free while others wait"
    assert [flow.status() for flow in waiting] == ["running"] * 3
    assert [waiting[0].signal("approved", {"by": name}) for name in ("Ada", "Bob")] == [True, False]
    assert waiting[0].result(SOON_MS) == "500 by Ada"
    assert waiting[1].cancel() == "cancelled"
    assert asked.start(amount=500, key="2").id == waiting[2].id
    late = workflow("late").then(is_large).then(wait("never", timeout="10ms")).start(amount=1)
    with pytest.raises(FlowFailed, match="no signal came in time"):
        late.result(SOON_MS)


def test_a_flow_goes_by_its_own_definition_and_on_once_its_actors_are_there_again(system: System) -> None:
    other = system.another(unknown_actor_grace_s=0)

    @system.actor()
    def first(number: int) -> int:
        return number

    @system.actor()
    def second(first: int) -> int:
        return first + 1

    @other.actor(actor_name="first")
    def first_there(number: int) -> int:
        return number * 10

    @other.actor(actor_name="third")
    def third(first: int) -> int:
        return first + 3

    flow = workflow("w").then(first).then(second).start(number=1)
    changed = workflow("w").then(first_there).then(third)
    other.work()
    with pytest.raises(FlowFailed, match="no actor named 'second'"):
        flow.result(SOON_MS)
    assert changed.start(number=1).result(SOON_MS) == 13
    other.rest()
    system.work()
    flow.retry()
    assert flow.result(SOON_MS) == 11, "the first step was kept"


def test_a_result_that_is_no_json_is_a_dead_letter(system: System) -> None:
    @system.actor()
    def odd() -> Any:
        return object()

    flow = workflow("w").then(odd).start()
    system.work()
    with pytest.raises(FlowFailed, match="cannot be kept as JSON"):
        flow.result(SOON_MS)


def test_a_step_is_a_plain_message_and_its_dead_letter_is_retried_by_its_flow(system: System) -> None:
    from control.jobs import retry, retry_many
    from errors import IllegalTransition

    @system.actor(max_retries=0)
    def fail(x: int) -> None:
        system.note(x)
        if len(system.notes) == 1:
            raise RuntimeError("no")

    flow = workflow("w").then(step(fail, each="xs")).start(xs=[7])
    system.work()
    with pytest.raises(FlowFailed):
        flow.result(SOON_MS)
    [job] = system.queries.jobs(state=State.FAILED)
    view = system.queries.job(job.id)
    assert view is not None
    message = json.loads(view.body)
    assert (message["actor_name"], message["args"], message["kwargs"]) == ("fail", [], {"x": 7})
    with pytest.raises(IllegalTransition, match=f"a step of flow {flow.id}"):
        retry(system.control, job.id, by="me")
    assert retry_many(system.control, by="me") == []
    flow.retry()
    flow.result(SOON_MS)
    assert system.notes == [7, 7]

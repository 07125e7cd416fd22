"""A job again with other arguments: a new job, and the old one as it was."""

from collections.abc import Iterator

import dramatiq
import pytest
from pydantic import SecretStr

from broker import build
from broker.broker import Broker
from broker.edits import edit
from control import Control
from errors import IllegalTransition, InvalidPayload, JobNotFound, Refusal
from ledger.queries import Queries
from ledger.states import Outcome, State
from settings import Settings
from tests.ledger_under_test import LedgerUnderTest


@pytest.fixture
def ledger(database_url: str) -> Iterator[LedgerUnderTest]:
    ledger = LedgerUnderTest(database_url, "embedded")
    yield ledger
    ledger.close()


@pytest.fixture
def broker(database_url: str) -> Iterator[Broker]:
    key = "k1:" + "A" * 43 + "="
    broker = build(Settings(database_url=database_url, keys=SecretStr(key)))

    @dramatiq.actor(broker=broker, queue_name="q")
    def pay(amount: int, *, to: str = "ann") -> None: ...

    yield broker
    broker.close()


@pytest.fixture
def control(database_url: str) -> Iterator[Control]:
    control = Control(database_url, "embedded")
    yield control
    control.close()


def sent(broker: Broker, *args: object, **kwargs: object) -> str:
    message = broker.enqueue(broker.get_actor("pay").message(*args, **kwargs))
    job = broker.queries.job(message.message_id)
    assert job is not None
    return job.id


def test_the_new_job_has_what_was_changed_and_each_says_of_the_other(
    broker: Broker, control: Control, ledger: LedgerUnderTest
) -> None:
    old = sent(broker, 5, to="bob")
    queries: Queries = broker.queries
    new = edit(broker, control, old, args=[7], by="cli:ann")
    one, other = queries.job(old), queries.job(new)
    assert one is not None
    assert other is not None
    assert (one.message or {})["args"] == [5]
    assert (one.state, one.edited_into, one.edited_from) == (State.WAITING, [new], None)
    assert ((other.message or {})["args"], (other.message or {})["kwargs"]) == ([7], {"to": "bob"})
    assert (other.state, other.edited_from) == (State.WAITING, old)
    assert [(row.event, row.actor) for row in one.journal] == [("edited", "cli:ann")]
    assert edit(broker, control, old, kwargs={}, by="ann") != new
    assert len(queries.job(old).edited_into) == 2  # type: ignore[union-attr]


def test_what_the_actor_does_not_take_is_refused_and_nothing_is_recorded(broker: Broker, control: Control) -> None:
    old = sent(broker, 5)
    with pytest.raises(InvalidPayload):
        edit(broker, control, old, args=["much"], by="ann")
    with pytest.raises(JobNotFound):
        edit(broker, control, "00000000-0000", args=[1], by="ann")
    assert broker.queries.job(old).edited_into == []  # type: ignore[union-attr]
    assert len(broker.queries.jobs()) == 1


def test_a_running_job_and_what_is_no_message_cannot_be_edited(
    broker: Broker, control: Control, ledger: LedgerUnderTest
) -> None:
    job, epoch = ledger.active(body=b"\xff")
    with pytest.raises(IllegalTransition, match="is running"):
        edit(broker, control, job.id, args=[1], by="ann")
    ledger.finish(job, epoch, Outcome.FAILED)
    with pytest.raises(Refusal, match="nothing to edit"):
        edit(broker, control, job.id, args=[1], by="ann")

"""A job again with other arguments: a new job, and the old one as it was."""

import sqlite3
from collections.abc import Iterator

import dramatiq
import pytest
from pydantic import SecretStr
from sqlalchemy import func, select

from broker import build
from broker.broker import Broker
from broker.deeds import sending
from broker.edits import edit
from control import Control
from control.transaction import Transaction
from errors import IllegalTransition, InvalidPayload, JobNotFound, LedgerUnavailable, Refusal
from ledger.engine import Database
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


def test_what_is_shown_in_the_place_of_a_secret_is_refused_and_not_run_in_its_place(
    broker: Broker, control: Control
) -> None:
    @dramatiq.actor(broker=broker, queue_name="q", sensitive=True)
    def diagnose(text: str) -> None: ...

    @dramatiq.actor(broker=broker, queue_name="q")
    def tell(text: str) -> None: ...

    sealed, hidden = (broker.enqueue(x.message("password=hunter2")) for x in (diagnose, tell))
    said = broker.enqueue(tell.message("this was [redacted] by its author"))
    seen = (broker.queries.job(sealed.job_id).message or {})["args"]  # type: ignore[union-attr]
    assert seen == ["<encrypted: key k1>"]
    with pytest.raises(Refusal, match=r"<encrypted: key k1> is what is shown in the place of a secret"):
        edit(broker, control, sealed.job_id, args=seen, by="ann")
    with pytest.raises(Refusal, match=r"\[redacted\] is what is shown"):
        edit(broker, control, hidden.job_id, args=["password=[redacted]"], by="ann")
    assert edit(broker, control, said.job_id, args=["and [redacted] again"], by="ann")
    assert len(broker.queries.jobs()) == 4


def test_a_connection_that_breaks_while_a_verb_sends_is_an_unavailable_ledger(
    broker: Broker, control: Control, database_url: str
) -> None:
    other = Database(database_url)

    def verb(tx: Transaction) -> None:
        if other.sqlite:
            raise sqlite3.OperationalError("disk I/O error")
        backend = tx.connection.scalar(select(func.pg_backend_pid()))
        with other.write() as connection:
            connection.execute(select(func.pg_terminate_backend(backend, 5_000)))
        broker.enqueue(broker.get_actor("pay").message(5))

    with pytest.raises(LedgerUnavailable):
        sending(broker, control, verb, by="ann")
    other.close()
    assert broker.queries.jobs() == []


def test_what_a_verb_sent_is_there_if_and_only_if_all_it_did_is(broker: Broker, control: Control) -> None:
    def verb(tx: Transaction) -> None:
        broker.enqueue(broker.get_actor("pay").message(5))
        tx.note(None, "paused", {"queue": "q"})
        if fails:
            raise RuntimeError("and then the process died")

    fails = True
    with pytest.raises(RuntimeError):
        sending(broker, control, verb, by="ann")
    assert broker.queries.jobs() == []
    fails = False
    sending(broker, control, verb, by="ann")
    assert len(broker.queries.jobs()) == 1

"""Who may send to an actor, asked where a message enters."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dramatiq
import pytest
from dramatiq.message import Message
from dramatiq.middleware import SkipMessage

from broker import build
from broker.broker import Broker
from broker.making import job_of, received
from errors import Forbidden, InvalidActor, LedgerUnavailable, SettingsError
from ledger.migrate import Migrations
from ledger.records import Claim, Verdict
from ledger.states import Outcome
from middleware.attempt import JobMessage
from settings import Settings, load


def broker_of(folder: Path, **settings: Any) -> Broker:
    return build(Settings(database_url=f"sqlite:///{folder / 'h.db'}", **settings))


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    Migrations(f"sqlite:///{tmp_path / 'h.db'}").upgrade()
    found = broker_of(tmp_path)
    yield found
    found.close()


def restricted(broker: Broker) -> tuple["dramatiq.Actor[[int], None]", "dramatiq.Actor[[int], None]"]:
    @dramatiq.actor(broker=broker, aliases=["settle"], allowed_producers={"billing-api"})
    def pay(amount: int) -> None: ...

    @dramatiq.actor(broker=broker)
    def invoice(amount: int) -> None: ...

    return pay, invoice


def test_only_who_is_named_may_send(broker: Broker) -> None:
    pay, invoice = restricted(broker)
    with pytest.raises(Forbidden, match="pay: a producer without a name may not send to it, only billing-api"):
        pay.send(1)
    with broker.sent_by("reports"):
        invoice.send(1)
        with pytest.raises(Forbidden, match="pay: producer 'reports' may not send to it"):
            pay.send(1)
        with pytest.raises(Forbidden):
            broker.enqueue_many([invoice.message(1), pay.message(1)])
    with broker.sent_by("billing-api"):
        sent = pay.send(1)
    view = broker.queries.job(sent.message_id)
    assert view is not None
    assert view.producer.startswith("billing-api@")
    assert len(broker.queries.jobs()) == 2
    with pytest.raises(ValueError, match="a producer's name is letters"), broker.sent_by("(follows)"):
        pass


def test_what_a_message_makes_follow_is_asked_for_when_it_enters(broker: Broker) -> None:
    pay, invoice = restricted(broker)
    step: Message[Any] = pay.message_with_options(args=())
    ways = [
        (invoice.message(1) | step).messages[0],
        (invoice.message(1) | invoice.message_with_options(args=()) | step).messages[0],
        invoice.message_with_options(args=(1,), on_success="pay"),
        invoice.message_with_options(args=(1,), on_failure="settle"),
        invoice.message_with_options(args=(1,), on_retry_exhausted="pay"),
        invoice.message_with_options(args=(1,), group_completion_callbacks=[step.asdict()]),
        invoice.message(1).copy(actor_name="settle"),
    ]
    for message in ways:
        with pytest.raises(Forbidden):
            broker.enqueue(message)
        with pytest.raises(Forbidden):
            received(broker, message, "reports")
        with broker.sent_by("billing-api"):
            job_of(broker, message)
        assert received(broker, message, "billing-api")[0] is message


def test_a_process_has_the_name_of_its_settings_or_its_user(tmp_path: Path) -> None:
    url = "amqp://worker:word@127.0.0.1:1/"
    assert broker_of(tmp_path).producer == ""
    assert broker_of(tmp_path, broker_url=url).producer == "worker"
    assert broker_of(tmp_path, broker_url=url, producer="billing-api").producer == "billing-api"
    with pytest.raises(SettingsError, match=r"HARELINE_PRODUCER=a b .*: expected a name of letters"):
        load({"HARELINE_PRODUCER": "a b"}, tmp_path)


@pytest.mark.parametrize("names", ["billing-api", [], {""}, {1}, 7, {"(follows)"}])
def test_what_is_no_set_of_names_is_refused(broker: Broker, names: Any) -> None:
    def act() -> None: ...

    with pytest.raises(InvalidActor, match="allowed_producers is a set of names"):
        dramatiq.actor(act, broker=broker, allowed_producers=names)  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("trouble", "raised", "outcome"),
    [
        (LedgerUnavailable("away"), SkipMessage, Outcome.INTERRUPTED),
        (RuntimeError("anything else"), Forbidden, Outcome.FAILED),
    ],
)
def test_while_nobody_can_tell_who_sent_it_nothing_starts(
    broker: Broker, trouble: Exception, raised: type[Exception], outcome: Outcome
) -> None:
    pay, _ = restricted(broker)

    def fail(id: str) -> None:
        raise trouble

    broker.permissions.recorded = fail
    job = JobMessage(pay.message(1), Claim("id", Verdict.RUN), settle=lambda message, answer: None)
    with pytest.raises(raised):
        broker.emit_before("process_message", job)
    broker.emit_after("skip_message", job)  # it is not the current job any more
    assert job.ending is not None
    assert job.ending.outcome is outcome


def test_a_forged_message_of_an_actor_that_is_anybodys_makes_nothing_restricted_follow(broker: Broker) -> None:
    pay, invoice = restricted(broker)
    sent = invoice.message(1)
    broker.permissions.recorded = lambda id: ("reports@host:1", sent.encode())

    def arrived(**options: Any) -> JobMessage:
        forged = sent.copy(args=(7,), options=options)
        job = JobMessage(forged, Claim("id", Verdict.RUN), settle=lambda message, answer: None, body=forged.encode())
        broker.permissions.before_process_message(broker, job)
        return job

    step = pay.message_with_options(args=(1_000_000,), pipe_ignore=True).asdict()
    ways: list[dict[str, Any]] = [
        {"pipe_target": step},
        {"pipe_target": sent.copy(options={"pipe_target": step}).asdict()},
        {"group_completion_callbacks": [step]},
        {"on_success": "settle"},
    ]
    for options in ways:
        job = arrived(**options)
        assert (job.args, job.options) == ((1,), {})
    with pytest.raises(Forbidden, match="who sent it cannot be told"):
        arrived(pipe_target={"nobody": "can read it"})
    broker.permissions.recorded = lambda id: None
    with pytest.raises(Forbidden, match="the ledger does not know who sent it"):
        arrived(on_success="pay")

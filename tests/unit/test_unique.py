"""``unique``: which sends are of one kind, what their senders are given, and what is refused by name."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dramatiq
import pytest
from dramatiq import Actor, group, pipeline
from pydantic import BaseModel

from broker import Broker, build
from broker.adoption import Foreign, Received, adopt
from errors import InvalidActor, Refusal
from ledger.records import Key, Mode
from ledger.states import State
from middleware.unique import Duplicate, Unique, key_of
from settings import Settings


@pytest.fixture
def broker(tmp_path: Path) -> Any:
    found = build(Settings(database_url=f"sqlite:///{tmp_path / 'hareline.db'}"))
    yield found
    found.close()


def actor(broker: Broker, unique: Any, fn: Callable[..., None] | None = None) -> Actor[..., None]:
    def charge(user_id: int, order: Any = None, *, note: str = "") -> None: ...

    made: Callable[[Callable[..., None]], Actor[..., None]] = dramatiq.actor(broker=broker, unique=unique)
    return made(fn or charge)


def rows(broker: Broker) -> list[Any]:
    return list(broker.queries.jobs())


def digest(of: Actor[Any, Any], *args: Any, **kwargs: Any) -> str:
    key = key_of(of, of.message(*args, **kwargs))
    assert key is not None
    return key.digest


def test_of_two_sends_the_second_returns_a_handle_of_the_first(broker: Broker) -> None:
    charge = actor(broker, Unique(by=["user_id"]))
    first, second, other = charge.send(1), charge.send(1, note="again"), charge.send(2)
    assert not isinstance(first, Duplicate)
    assert not isinstance(other, Duplicate)
    assert isinstance(second, Duplicate)
    assert second.message_id == first.message_id
    assert len(rows(broker)) == 2
    job = broker.queries.job(second.message_id)
    assert job is not None
    assert job.state is State.WAITING


def test_an_actor_without_it_is_untouched_and_a_message_may_say_otherwise(broker: Broker) -> None:
    plain, unique = actor(broker, None), actor(broker, Unique(), lambda x: None)
    assert key_of(plain, plain.message(1)) is None
    for _ in range(2):
        assert not isinstance(plain.send(1), Duplicate)
        assert not isinstance(unique.send_with_options(args=(1,), unique=None), Duplicate)
    assert not isinstance(plain.send_with_options(args=(1,), unique=Unique()), Duplicate)
    assert isinstance(plain.send_with_options(args=(1,), unique=Unique()), Duplicate)
    assert isinstance(plain.send_with_options(args=(1,), unique={"by": None}), Duplicate), "as from another language"


def test_many_at_once_are_recorded_each_kind_once(broker: Broker) -> None:
    charge = actor(broker, Unique())
    sent = broker.enqueue_many([charge.message(n % 3) for n in range(9)])
    assert [isinstance(message, Duplicate) for message in sent] == [False] * 3 + [True] * 6
    assert [message.message_id for message in sent[3:6]] == [message.message_id for message in sent[:3]]
    assert len(rows(broker)) == 3


def test_a_replacement_is_the_job_with_its_own_message_id_and_delay(broker: Broker) -> None:
    search = actor(broker, Unique(mode="replace"), lambda text: None)
    replaced = search.send_with_options(args=("a",), delay=60_000, unique=Unique(by=["text"], mode="replace"))
    search.send_with_options(args=("a",), delay=60_000, unique=Unique(by=["text"], mode="replace"))
    newest = search.send_with_options(args=("a",), delay=timedelta(hours=1), unique=Unique(by=["text"], mode="replace"))
    assert not isinstance(newest, Duplicate)
    [row] = rows(broker)
    assert row.message_id == newest.message_id
    assert row.run_at - row.created_at > timedelta(minutes=59)
    assert broker.queries.job(replaced.message_id) is None
    shown = broker.queries.job(newest.message_id)
    assert shown is not None


def test_all_arguments_count_unless_some_are_named_however_they_are_passed(broker: Broker) -> None:
    charge = actor(broker, Unique())
    assert digest(charge, 1, None) == digest(charge, user_id=1) == digest(charge, 1, note="")
    assert len({digest(charge, 1), digest(charge, 2), digest(charge, "1"), digest(charge, 1, note="x")}) == 4
    assert digest(charge, 1, {"a": 1, "b": [2]}) == digest(charge, 1, {"b": [2], "a": 1})
    assert digest(charge, 1, {1: 2, "x": 3}) == digest(charge, 1, {"1": 2, "x": 3}), "as JSON has it"


def test_two_actors_share_no_key(broker: Broker) -> None:
    def refund(user_id: int, order: Any = None, *, note: str = "") -> None: ...

    assert digest(actor(broker, Unique()), 1) != digest(actor(broker, Unique(), refund), 1)


def test_paths_lead_into_dicts_and_models(broker: Broker) -> None:
    class Model(BaseModel):
        customer: dict[str, int]

    @dataclass
    class Plain:
        customer: dict[str, int]

    charge = actor(broker, Unique(by=["order.customer.id"]))
    orders: list[Any] = [{"customer": {"id": 7}, "x": 1}, Model(customer={"id": 7}), Plain({"id": 7})]
    assert len({digest(charge, n, order) for n, order in enumerate(orders)}) == 1
    whole = actor(broker, Unique(by=["order"]), lambda order: None)
    assert digest(whole, Model(customer={"id": 7})) == digest(whole, Plain({"id": 7})) == digest(whole, orders[1])
    with pytest.raises(Refusal, match=r"charge: unique by 'order.customer.id': .* no 'customer' there"):
        charge.send(1, {"custmer": {"id": 7}})


def test_a_path_that_is_no_parameter_is_refused_at_the_declaration_and_at_the_send(broker: Broker) -> None:
    with pytest.raises(InvalidActor, match=r"actor 'charge': unique by 'usr_id': .* the nearest is 'user_id'"):
        actor(broker, Unique(by=["usr_id"]))
    with pytest.raises(InvalidActor, match="unique is a Unique"):
        actor(broker, "user_id", lambda user_id: None)
    charge = actor(broker, None)
    with pytest.raises(Refusal, match=r"charge: unique by 'oder.id': 'oder' .* 'order'"):
        charge.send_with_options(args=(1,), unique=Unique(by=["oder.id"]))
    with pytest.raises(Refusal, match=r"charge: .*mode is reject, replace, throttle, got 'drop'"):
        charge.send_with_options(args=(1,), unique={"mode": "drop"})
    assert actor(broker, Unique(by=["anything"]), lambda **options: None).options["unique"]["by"] == ["anything"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"by": "user_id"}, r"write by=\['user_id'\]"),
        ({"by": []}, "by is empty"),
        ({"within": 0}, "above 0"),
        ({"within": timedelta(seconds=-1)}, "above 0"),
        ({"within": float("nan")}, "above 0"),
        ({"states": ["completed"]}, "set within"),
        ({"states": []}, "states are of"),
        ({"mode": "throttle"}, "needs within"),
        ({"mode": "replace", "within": 1}, "takes no within"),
        ({"mode": "throttle", "within": 1, "states": ["active"]}, "leave them out"),
    ],
)
def test_a_value_that_means_nothing_is_refused_with_the_remedy(options: dict[str, Any], words: str) -> None:
    with pytest.raises((TypeError, ValueError), match=words):
        Unique(**options)


def test_it_says_what_the_ledger_needs(broker: Broker) -> None:
    charge = actor(broker, Unique(within=timedelta(minutes=1), states=["waiting"]))
    key = key_of(charge, charge.message(1))
    assert key is not None
    assert key == Key(key.digest, Mode.REJECT, frozenset({State.WAITING}), 60_000)


def test_arguments_that_fit_no_call_or_no_json_are_refused(broker: Broker) -> None:
    charge = actor(broker, Unique(by=["user_id"]))
    with pytest.raises(Refusal, match="charge: missing a required argument: 'user_id'"):
        key_of(charge, charge.message())
    with pytest.raises(Refusal, match="JSON"):
        key_of(charge, charge.message(frozenset({1, 2})))


def test_in_a_pipeline_it_travels_with_the_next_step(broker: Broker) -> None:
    charge = actor(broker, None)
    steps = pipeline([charge.message(1), charge.message_with_options(args=(2,), unique=Unique(by=["user_id"]))])
    body = json.loads(steps.messages[0].encode())
    later: dramatiq.Message[Any] = dramatiq.Message(**body["options"]["pipe_target"])
    assert key_of(charge, later) == key_of(
        charge, charge.message_with_options(args=(2,), unique=Unique(by=["user_id"]))
    )


def test_a_group_that_would_wait_for_ever_is_refused(broker: Broker) -> None:
    charge = actor(broker, Unique())
    jobs = group([charge.message(1)], broker=broker)
    jobs.add_completion_callback(charge.message(2))
    with pytest.raises(Refusal, match="send it with unique=None"):
        jobs.run()


def test_what_is_held_back_for_a_finish_has_its_key(broker: Broker) -> None:
    charge = actor(broker, Unique())
    held: list[Any] = []
    with broker.holding(held):
        charge.send(1)
    assert [job.key for job in held] == [key_of(charge, charge.message(1))]


def test_a_tick_of_a_kind_that_is_there_is_not_sent(broker: Broker) -> None:
    charge = actor(broker, Unique())
    charge.send(1)
    tick = ("hourly", datetime(2030, 1, 1, tzinfo=UTC))
    assert not broker.enqueue_tick(charge.message(1), tick)
    assert len(rows(broker)) == 1


def test_a_foreign_message_of_the_actor_has_the_same_key(broker: Broker) -> None:
    charge = actor(broker, Unique())
    message = charge.message(1)
    foreign = Foreign("elsewhere", None, message.encode(), 3, lambda job: None, lambda letter: None)
    assert adopt(foreign, lambda x, user: Received(x, key_of(charge, x))).key == key_of(charge, message)

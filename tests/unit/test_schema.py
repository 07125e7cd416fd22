"""Arguments against signatures, as far as it can be said without a worker; the rest is in tests/integration."""

import dataclasses
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Unpack
from uuid import UUID

import dramatiq
import pytest
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, SecretStr, field_validator
from typing_extensions import TypedDict

from broker import Broker, build
from broker.making import job_of
from errors import InvalidActor, InvalidPayload, Refusal
from middleware.signature import Signature
from settings import Settings


class Colour(Enum):
    RED = "red"


class Line(BaseModel):
    sku: str
    price: Decimal


class Order(BaseModel):
    model_config = ConfigDict(strict=True)

    id: UUID
    at: datetime
    lines: list[Line] = []


@dataclasses.dataclass
class Point:
    x: float
    y: float = 0.0


class Tags(TypedDict):
    first: str


class Options(TypedDict):
    depth: int


class Fragile(BaseModel):
    name: str

    @field_validator("name")
    @classmethod
    def _looked_up(cls, name: str) -> str:
        return {"known": name}[name]


ORDER = Order(
    id=UUID(int=7),
    at=datetime(2026, 7, 1, 12, tzinfo=UTC),
    lines=[Line(sku="a", price=Decimal("0.1000000000000000000001"))],
)


@pytest.fixture
def broker(tmp_path: Path) -> Broker:
    return build(Settings(database_url=f"sqlite:///{tmp_path / 'hareline.db'}"))


def over_the_wire(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What the body gets of what was sent."""
    signature = Signature("act", fn)
    body = json.loads(json.dumps(signature.written(args, kwargs)))
    return signature.typed(tuple(body[0]), body[1])


def problems(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> list[str]:
    """What both sides say of these arguments, which are plain."""
    signature = Signature("act", fn)
    with pytest.raises(InvalidPayload) as here:
        signature.written(args, kwargs)
    with pytest.raises(InvalidPayload) as there:
        signature.typed(args, kwargs)
    assert here.value.problems == there.value.problems
    assert all(problem in str(here.value) for problem in here.value.problems)
    assert "'act'" in str(here.value)
    return list(here.value.problems)


def recorded(broker: Broker) -> int:
    return sum(sum(states.values()) for states in broker.queries.counts().values())


# -- what goes over the wire


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Order, ORDER),
        (Point, Point(0.1, 2.0)),
        (Tags, {"first": "one"}),
        (datetime, datetime(2026, 7, 1, 12, 0, 0, 123456, tzinfo=UTC)),
        (timedelta, timedelta(days=3, microseconds=1)),
        (Decimal, Decimal("12345678901234567890.123456789012345678901234567890")),
        (Decimal, Decimal("1.10")),
        (UUID, UUID(int=2**128 - 1)),
        (Colour, Colour.RED),
        (tuple[int, str], (1, "a")),
        (set[int], {1, 2}),
        (bytes, "ü".encode()),
        (dict[int, Line], {1: Line(sku="a", price=Decimal("2.50"))}),
        (Order | None, None),
        (list[Order | Point], [ORDER, Point(1.0)]),
        (int, 10**40),
    ],
    ids=str,
)
def test_a_value_arrives_as_it_was_given(kind: Any, value: Any) -> None:
    def act(x: Any) -> None: ...

    act.__annotations__["x"] = kind
    for [arrived] in (over_the_wire(act, value)[0], over_the_wire(act, x=value)[1].values()):
        assert arrived == value
        assert type(arrived) is type(value)
        if kind is Decimal:
            assert str(arrived) == str(value)  # 1.1 and 1.10 are equal


def test_plain_json_will_do_too() -> None:
    def act(order: Order, at: datetime, price: Decimal) -> None: ...

    plain = {
        "id": str(ORDER.id),
        "at": "2026-07-01T12:00:00Z",
        "lines": [{"sku": "a", "price": "0.1000000000000000000001"}],
    }
    args, _ = over_the_wire(act, plain, "2026-07-01T12:00:00Z", "1.10")
    assert args == (ORDER, ORDER.at, Decimal("1.10"))


def test_every_kind_of_parameter_gets_its_values() -> None:
    def act(a: int, /, b: Decimal, *rest: Decimal, c: datetime, d: int = 5, **others: UUID) -> None: ...

    one, two, now, id = Decimal("1.0"), Decimal("2.0"), datetime(2026, 7, 1), UUID(int=1)
    assert over_the_wire(act, 1, one, two, one, c=now, a=id) == ((1, one, two, one), {"c": now, "a": id})
    assert over_the_wire(act, 1, b=one, c=now) == ((1,), {"b": one, "c": now})


def test_keyword_arguments_may_have_a_typed_dict() -> None:
    def act(*rest: int, **options: Unpack[Options]) -> None: ...

    assert over_the_wire(act, 1, 2, depth="3") == ((1, 2), {"depth": 3})
    assert problems(act, depth="x") == [
        "options.depth: expected a valid integer, unable to parse string as an integer, got 'x'"
    ]


def test_what_is_not_annotated_is_left_alone() -> None:
    def act(a, b: Any, c: object, *rest, d=1, **others) -> None: ...  # type: ignore[no-untyped-def]

    odd = {"surrogate": "\udc80", "nan": float("inf"), "deep": json.loads("[" * 400 + "]" * 400)}
    assert over_the_wire(act, odd, [1], None, odd, e=odd) == ((odd, [1], None, odd), {"e": odd})
    signature = Signature("act", act)
    assert signature.validator is None


def test_annotated_and_other_parameters_go_together() -> None:
    def act(a, at: datetime, b=None) -> None: ...  # type: ignore[no-untyped-def]

    now = datetime(2026, 7, 1)
    assert over_the_wire(act, {"x": [1]}, now, b="\udc80") == (({"x": [1]}, now), {"b": "\udc80"})
    assert problems(act, at="now")[0] == "a: missing"


def test_plain_arguments_are_not_copied() -> None:
    def act(x: float, event: dict[str, Any]) -> None: ...

    args = (1.5, {"a": [1, None]})
    assert Signature("act", act).written(args, {})[0] is args


# -- what does not fit


def test_every_error_is_listed_at_once_with_its_path() -> None:
    def act(order: Order, count: int, point: Point, at: datetime) -> None: ...

    found = problems(act, {"id": "7", "at": 5, "lines": [{"sku": 1, "price": "x"}]}, "many", nobody="x")
    assert [problem.partition(":")[0] for problem in found] == [
        "nobody", "order.id", "order.at", "order.lines[0].sku", "order.lines[0].price", "count", "point", "at",
    ]  # fmt: skip
    assert found[0] == "nobody: no such parameter, got 'x'"
    assert found[5] == "count: expected a valid integer, unable to parse string as an integer, got 'many'"
    assert found[6].startswith("point: missing, expected ")
    assert found[7] == "at: missing, expected datetime.datetime"


def test_arguments_are_counted_though_nothing_is_annotated() -> None:
    def act(a, b, *, c) -> None: ...  # type: ignore[no-untyped-def]

    assert problems(act, 1, 2, 3, a=1, c=1) == [
        "takes 2 positional arguments, got 3",
        "a: given by position and by name",
    ]
    assert sorted(problems(act, 1)) == ["b: missing", "c: missing"]


def test_a_large_value_is_shown_in_part() -> None:
    def act(x: int) -> None: ...

    [found] = problems(act, "y" * 10_000)
    assert len(found) < 200
    assert found.endswith("…")


def test_what_cannot_be_written_as_json_is_named_beside_what_does_not_fit() -> None:
    def act(x: Point, y: bytes, z: int) -> None: ...

    with pytest.raises(InvalidPayload) as caught:
        Signature("act", act).written((object(), b"\xff", "z"), {})
    assert [problem.partition(":")[0] for problem in caught.value.problems] == ["x", "y", "z"]
    assert "cannot be written as JSON" in caught.value.problems[0]


def test_a_secret_is_not_sent_as_asterisks() -> None:
    class Login(BaseModel):
        password: SecretStr

    def act(login: Login) -> None: ...

    with pytest.raises(InvalidPayload, match="pass a reference"):
        Signature("act", act).written((Login(password=SecretStr("x")),), {})
    assert over_the_wire(act, {"password": "*" * 10})[0] == (Login(password=SecretStr("*" * 10)),)


def test_a_validator_that_breaks_is_not_the_payloads_fault() -> None:
    def act(x: Fragile) -> None: ...

    for side in ("written", "typed"):
        with pytest.raises(Refusal, match="act: its arguments could not be validated: KeyError") as caught:
            getattr(Signature("act", act), side)(({"name": "unknown"},), {})
        assert not isinstance(caught.value, InvalidPayload)


# -- messages that are older than the signature


def test_a_new_parameter_with_a_default_may_be_missing() -> None:
    def act(a: int, currency: str = "EUR", *, since: datetime | None = None) -> None: ...

    assert Signature("act", act).typed((1,), {}) == ((1,), {})


@pytest.mark.parametrize("name", ["customer", "client", "user"])
def test_a_renamed_parameter_is_known_by_all_its_names(name: str) -> None:
    def act(customer: Annotated[str, Field(validation_alias=AliasChoices("client", "user"))], count: int) -> None: ...

    signature = Signature("act", act)
    assert signature.typed((), {name: "ada", "count": 1}) == ((), {"customer": "ada", "count": 1})
    assert signature.typed(("ada",), {"count": 1}) == (("ada",), {"count": 1})
    assert signature.written((), {name: "ada", "count": Decimal(1)}) == ((), {name: "ada", "count": "1"})


def test_a_renamed_field_of_a_model_is_known_by_its_old_name() -> None:
    class Event(BaseModel):
        customer: Annotated[str, Field(validation_alias=AliasChoices("customer", "client"))]

    def act(event: Event) -> None: ...

    assert over_the_wire(act, {"client": "ada"}) == ((Event(customer="ada"),), {})
    assert over_the_wire(act, Event(customer="ada")) == ((Event(customer="ada"),), {})


# -- sending


def test_a_payload_that_does_not_fit_is_refused_and_nothing_is_recorded(broker: Broker) -> None:
    @dramatiq.actor(broker=broker)
    def charge(amount: Decimal, at: datetime) -> None: ...

    message = charge.message_with_options(args=("much",))
    for send in (
        lambda: charge.send_with_options(args=("much",)),
        lambda: charge.send_with_options(args=("much",), delay=5),
        lambda: broker.enqueue(message),
        lambda: broker.enqueue_many([charge.message(Decimal(1), datetime(2026, 7, 1)), message]),
        lambda: broker.enqueue_tick(message, ("key", datetime.now(UTC))),
    ):
        with pytest.raises(InvalidPayload, match=r"'charge': amount: .*'much'; at: missing") as caught:
            send()
        assert caught.value.actor == "charge"
    assert recorded(broker) == 0
    broker.close()


def test_the_body_is_plain_dramatiq(broker: Broker) -> None:
    @dramatiq.actor(broker=broker)
    def charge(amount: Decimal, *, order: Order) -> None: ...

    message = charge.message(Decimal("1.10"), order=ORDER)
    body = json.loads(job_of(broker, message).body)
    assert body.keys() == message.asdict().keys()
    assert body["args"] == ["1.10"]
    assert body["kwargs"]["order"]["lines"] == [{"sku": "a", "price": "0.1000000000000000000001"}]
    assert message.kwargs == {"order": ORDER}, "the message itself is left alone"


def test_what_follows_in_a_pipeline_is_written_too(broker: Broker) -> None:
    @dramatiq.actor(broker=broker)
    def step(amount: Decimal, before: Decimal) -> None: ...

    first = (step.message(Decimal("1.10"), Decimal(1)) | step.message_with_options(args=(Decimal("2.20"),))).messages[0]
    assert json.loads(job_of(broker, first).body)["options"]["pipe_target"]["args"] == ["2.20"]


def test_an_argument_without_annotation_must_be_plain(broker: Broker) -> None:
    @dramatiq.actor(broker=broker)
    def charge(amount) -> None: ...  # type: ignore[no-untyped-def]

    with pytest.raises(Refusal, match=r"charge: its arguments cannot be written as JSON .*annotate the parameter"):
        charge.send(Decimal(1))


def test_validation_can_be_switched_off(broker: Broker) -> None:
    @dramatiq.actor(broker=broker, validate=False)
    def charge(amount: "Nowhere") -> None: ...  # type: ignore[name-defined]  # noqa: F821

    job_of(broker, charge.message_with_options(args=("much", 1, 2), kwargs={"x": 4}))


def test_a_direct_call_is_plain_python(broker: Broker) -> None:
    @dramatiq.actor(broker=broker)
    def double(x: int) -> int:
        return x * 2

    assert double("a") == double.fn("a") == "aa"  # type: ignore[arg-type, comparison-overlap]


def test_the_limit_is_a_hundred_kilobytes_and_says_what_to_do(broker: Broker) -> None:
    @dramatiq.actor(broker=broker)
    def store(text: str) -> None: ...

    job_of(broker, store.message("x" * 102_000))
    with pytest.raises(Refusal, match=r"store: .* bytes, the limit is 102,400; store the data and pass a reference"):
        store.send("x" * 102_400)


# -- declaring


def test_an_annotation_that_cannot_be_resolved_is_refused(broker: Broker) -> None:
    def charge(amount: int, to: "list[Nowhere]") -> None: ...  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(
        InvalidActor, match=r"'charge', parameter 'to': .*Nowhere.* above the actor, or .*validate=False"
    ):
        dramatiq.actor(broker=broker)(charge)
    assert "charge" not in broker.actors


def test_a_return_annotation_is_nobodys_business(broker: Broker) -> None:
    @dramatiq.actor(broker=broker)
    def charge(amount: "Decimal") -> "Nowhere": ...  # type: ignore[name-defined]  # noqa: F821

    job_of(broker, charge.message(Decimal(1)))


class Stranger:
    """Pydantic has no idea how to write it."""


def test_a_type_pydantic_does_not_know_is_refused_at_the_first_send_and_when_a_worker_starts(broker: Broker) -> None:
    @dramatiq.actor(broker=broker)
    def charge(amount: int, to: Stranger) -> None: ...

    words = r"'charge', parameter 'to': pydantic cannot validate its annotation .*Stranger.*validate=False"
    with pytest.raises(InvalidActor, match=words):
        charge.send_with_options(args=(1, 2))
    with pytest.raises(InvalidActor, match=words):
        broker.schemas.before_worker_boot(broker, dramatiq.Worker(broker))


@pytest.mark.parametrize("value", ["no", 0, None])
def test_validate_is_a_bool(broker: Broker, value: Any) -> None:
    with pytest.raises(InvalidActor, match=f"'charge': validate is True or False, got {value!r}"):
        dramatiq.actor(broker=broker, actor_name="charge", validate=value)(lambda: None)


def test_an_async_actor_has_its_own_signature(broker: Broker) -> None:
    @dramatiq.actor(broker=broker)
    async def charge(amount: Decimal) -> None: ...

    with pytest.raises(InvalidPayload, match="amount"):
        charge.send_with_options(args=("much",))


def test_an_unknown_option_is_refused_with_the_nearest(broker: Broker) -> None:
    with pytest.raises(ValueError, match="'min_backof' is not an option of an actor; the nearest is 'min_backoff'"):
        dramatiq.actor(broker=broker, min_backof=5)(lambda: None)
    dramatiq.actor(broker=broker, actor_name="fine", min_backoff=5, aliases=[], validate=True)(lambda: None)


# -- aliases


def test_an_old_name_stands_for_the_actor(broker: Broker) -> None:
    @dramatiq.actor(broker=broker, aliases=["bill", "invoice"])
    def charge(amount: Decimal) -> None: ...

    assert broker.get_actor("bill") is broker.get_actor("invoice") is charge
    job = job_of(broker, dramatiq.Message("default", "bill", (Decimal("1.10"),), {}, {}))
    assert job.actor == json.loads(job.body)["actor_name"] == "charge"
    with pytest.raises(InvalidPayload, match="'charge'"):
        broker.enqueue(dramatiq.Message("default", "bill", (), {}, {}))


def test_a_name_belongs_to_one_actor(broker: Broker) -> None:
    def declare(name: str, *aliases: str) -> None:
        dramatiq.actor(broker=broker, actor_name=name, aliases=list(aliases))(lambda: None)

    declare("charge", "bill")
    for name, alias, words in (
        ("refund", "charge", "'refund': its alias 'charge' is the name of actor 'charge'"),
        ("refund", "bill", "'refund': its alias 'bill' is an alias of actor 'charge' too"),
        ("refund", "refund", "'refund': its alias 'refund' is the name of actor 'refund'"),
        ("bill", "b", "'bill': that is an alias of actor 'charge'"),
    ):
        with pytest.raises(InvalidActor, match=words):
            declare(name, alias)
        assert broker.actors.keys() == {"charge"}
        assert broker.aliases.actors == {"bill": "charge"}


@pytest.mark.parametrize("value", ["bill", [1], [""], {"bill": 1}, None])
def test_aliases_are_a_list_of_names(broker: Broker, value: Any) -> None:
    with pytest.raises(InvalidActor, match="'charge': aliases is a list of its former names, got"):
        dramatiq.actor(broker=broker, actor_name="charge", aliases=value)(lambda: None)


def test_arguments_given_by_name_only_are_written_too(broker: Broker) -> None:
    @dramatiq.actor(broker=broker)
    def act(at: datetime) -> None: ...

    body = json.loads(job_of(broker, act.message(at=datetime(2026, 1, 2, tzinfo=UTC))).body)
    assert body["kwargs"] == {"at": "2026-01-02T00:00:00Z"}

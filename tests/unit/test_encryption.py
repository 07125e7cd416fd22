"""What is secret in a message is sealed, and nothing says it."""

import dataclasses
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import dramatiq
import pytest
from dramatiq.message import Message
from pydantic import AliasChoices, BaseModel, Field, field_validator

from broker import build
from broker.broker import Broker
from broker.making import job_of, received
from errors import InvalidActor, InvalidPayload, Refusal, SettingsError
from ledger.migrate import Migrations
from ledger.records import Claim, NewJob, Verdict
from ledger.sealing import Seal
from middleware.attempt import JobMessage
from middleware.discretion import keep_worker_quiet
from middleware.rates import Rate
from middleware.secret import Secret
from middleware.unique import Duplicate, Unique
from settings import Settings, load

KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
KEYS = f"k:{KEY}"
CARD = "4111-1111"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    url = f"sqlite:///{tmp_path / 'h.db'}"
    Migrations(url).upgrade()
    found = build(Settings(database_url=url, keys=KEYS))  # type: ignore[arg-type]
    yield found
    found.close()


class Card(BaseModel):
    number: Secret[str]
    holder: str = ""

    @field_validator("number")
    @classmethod
    def _digits(cls, number: Secret[str]) -> Secret[str]:
        if number.reveal().isalpha():
            raise ValueError(f"{number.reveal()} has no digits")
        return number


@dataclasses.dataclass
class Order:
    cards: list[Card]


def job_and_body(broker: Broker, message: Message[Any]) -> tuple[NewJob, dict[str, Any]]:
    job = job_of(broker, message)
    return job, json.loads(job.body)


@pytest.mark.parametrize(
    ("order", "path"),
    [
        (Order([Card(number=Secret(CARD))]), ["args", 0, "cards", 0, "number"]),
        ({"cards": [{"number": CARD}]}, ["args", 0, "cards", 0, "number"]),
    ],
    ids=["as objects", "as plain values"],
)
def test_only_what_is_annotated_is_sealed_wherever_it_is(broker: Broker, order: Any, path: list[Any]) -> None:
    @dramatiq.actor(broker=broker)
    def act(order: Order, user: str) -> None: ...

    job, body = job_and_body(broker, act.message(order, user="ada"))
    assert CARD.encode() not in job.body
    assert (body["kwargs"], body["options"]["sealed"]) == ({"user": "ada"}, [path])
    assert body["args"][0]["cards"][0]["holder"] == ""
    opened, whole = broker.encryption.opened(Message.decode(job.body))
    assert (opened.args[0]["cards"][0]["number"], whole, opened.options) == (CARD, False, {})


def test_all_arguments_of_a_sensitive_actor_are_one_envelope(broker: Broker) -> None:
    @dramatiq.actor(broker=broker, sensitive=True)
    def act(*args: Any, **kwargs: Any) -> None: ...

    job, body = job_and_body(broker, act.message(CARD, user="ada"))
    [envelope] = body["args"]
    assert envelope.startswith("hareline-sealed:k:")
    assert b"ada" not in job.body
    assert broker.encryption.opened(Message.decode(job.body))[0].args == (CARD,)
    assert job_and_body(broker, act.message(CARD, user="ada"))[1]["args"] != [envelope], "equal ones cannot be told"


def test_an_envelope_opens_only_where_it_was_sealed(broker: Broker) -> None:
    @dramatiq.actor(broker=broker)
    def pay(card: Secret[str], code: Secret[str]) -> None: ...

    @dramatiq.actor(broker=broker)
    def show(card: Secret[str], code: Secret[str]) -> None: ...

    _, body = job_and_body(broker, pay.message(Secret(CARD), Secret("123")))
    forged = [
        body | {"actor_name": "show"},
        body | {"message_id": "another"},
        body | {"args": body["args"][::-1]},
        body | {"args": [body["args"][0][:-3] + "AAA", body["args"][1]]},
        body | {"args": ["in clear", body["args"][1]]},
        body | {"options": {"sealed": [["kwargs", "nothing"]]}},
        body | {"options": {"sealed": 7}},
        body | {"options": {"sealed": [["args", "0"]]}},
    ]
    for message in forged:
        with pytest.raises(Refusal, match=r"encrypted|envelope"):
            broker.encryption.opened(Message(**message))


def test_a_renamed_actor_opens_what_was_sealed_for_its_former_name(broker: Broker, tmp_path: Path) -> None:
    before = build(Settings(database_url=f"sqlite:///{tmp_path / 'h.db'}", keys=KEYS))  # type: ignore[arg-type]

    @dramatiq.actor(broker=before, actor_name="old", sensitive=True)
    def old(card: str) -> None: ...

    @dramatiq.actor(broker=broker, actor_name="new", sensitive=True, aliases=["old"])
    def new(card: str) -> None: ...

    sealed = Message.decode(job_of(before, old.message(CARD)).body)
    assert broker.encryption.opened(sealed.copy(actor_name="new"))[0].args == (CARD,)


def test_the_next_step_of_a_pipeline_is_sealed_too(broker: Broker) -> None:
    @dramatiq.actor(broker=broker)
    def first() -> None: ...

    @dramatiq.actor(broker=broker, sensitive=True)
    def whole(text: str, result: int) -> None: ...

    @dramatiq.actor(broker=broker)
    def fields(text: Secret[str], result: int) -> None: ...

    steps: list[Message[Any]] = [whole.message(CARD), fields.message(Secret(CARD))]  # type: ignore[call-arg]
    for target in steps:
        pipeline = first.message() | target | first.message()
        job, body = job_and_body(broker, pipeline.messages[0])
        assert CARD.encode() not in job.body
        step: Message[Any] = Message(**body["options"]["pipe_target"])
        step = step.copy(args=(*step.args, 7))  # as Dramatiq appends a result
        later, _ = job_and_body(broker, step)
        assert broker.encryption.opened(Message.decode(later.body))[0].args == (CARD, 7)
        with pytest.raises(InvalidPayload, match="result: does not fit"):
            job_of(broker, step.copy(args=(step.args[0], "seven")))
    with pytest.raises(Refusal, match="its parameter is not annotated as one"):
        job_of(broker, (first.message() | first.message(Secret(CARD))).messages[0])  # type: ignore[call-arg]


def test_no_error_quotes_what_is_secret(broker: Broker) -> None:
    @dramatiq.actor(broker=broker)
    def pay(card: Card, limit: Secret[int] | None = None) -> None: ...

    @dramatiq.actor(broker=broker, sensitive=True)
    def whisper(number: int) -> None: ...

    bad: list[tuple[Any, dict[str, Any]]] = [
        (pay, {"card": {"number": "secrets"}}),
        (pay, {"card": {"number": "1", "holder": {"secrets": 1}}}),
        (pay, {"card": {"number": "1"}, "limit": "secrets"}),
        (pay, {"card": {"number": "1"}, "crad": "secrets"}),
        (whisper, {"number": "secrets"}),
    ]
    for message in (actor.message(**arguments) for actor, arguments in bad):
        with pytest.raises(InvalidPayload) as refused:
            job_of(broker, message)
        assert "secrets" not in str(refused.value)
        assert refused.value.__cause__ is None


def test_a_secret_shows_itself_nowhere() -> None:
    card = Card(number=Secret(CARD))
    for text in (repr(card), str(card.number), card.model_dump_json(), f"{card.model_dump()}"):
        assert CARD not in text
    with pytest.raises(TypeError):
        json.dumps(card.number)
    assert (card.number == Secret(CARD), card.number == CARD, len({card.number, Secret(CARD)})) == (True, False, 1)


def test_a_parameter_given_by_its_alias_is_sealed(broker: Broker) -> None:
    @dramatiq.actor(broker=broker)
    def pay(card: Annotated[Secret[str], Field(validation_alias=AliasChoices("number"))]) -> None: ...

    job, body = job_and_body(broker, pay.message(number=CARD))  # type: ignore[call-arg]
    assert CARD.encode() not in job.body
    assert body["options"]["sealed"] == [["kwargs", "number"]]


def test_what_makes_a_key_of_a_secret_is_refused(broker: Broker) -> None:
    def act(card: Secret[str], user: Card) -> None: ...

    declare: Any = dramatiq.actor
    keys: list[dict[str, Any]] = [
        {"unique": Unique()},
        {"unique": Unique(by=["card"])},
        {"rate_limit": Rate(1, key="card")},
        {"rate_limit": [Rate(1), Rate(2, key="user")]},
        {"sensitive": True, "unique": Unique(by=["card"])},
    ]
    for options in keys:
        with pytest.raises(InvalidActor, match="would keep a digest of what is secret"):
            declare(act, broker=broker, actor_name=f"act {options}", **options)
    below = declare(act, broker=broker, actor_name="below", unique=Unique(by=["user.number"]))
    with pytest.raises(Refusal, match="a digest of what is secret"):
        below.send(CARD, Card(number=Secret("1")))
    with pytest.raises(InvalidActor, match="sensitive is True or False"):
        declare(act, broker=broker, actor_name="yes", sensitive="yes")


def test_a_message_makes_no_key_of_a_secret_either(broker: Broker) -> None:
    @dramatiq.actor(broker=broker, sensitive=True)
    def whisper(text: str) -> None: ...

    @dramatiq.actor(broker=broker)
    def pay(card: Secret[str], user: Card, order: int) -> None: ...

    @dramatiq.actor(broker=broker, unique=Unique(by=["user.number"]))
    def charge(user: Card) -> None: ...

    def message(unique: Unique) -> Message[Any]:
        return pay.message_with_options(args=(CARD, {"number": "1"}, 7), unique=unique)

    for refused in [
        whisper.message_with_options(args=(CARD,), unique=Unique(by=["text"])),
        message(Unique()),
        message(Unique(by=["card"])),
        message(Unique(by=["user.number"])),
        charge.message(Card(number=Secret("1"))),
    ]:
        with pytest.raises(Refusal, match="a digest of what is secret"):
            broker.enqueue(refused)
        plain = refused.copy(args=({"number": "1"},)) if refused.actor_name == "charge" else refused
        with pytest.raises(Refusal, match="a digest of what is secret"):
            received(broker, plain, "a foreign producer")
    assert broker.queries.jobs() == []
    first, second = [broker.enqueue(message(Unique(by=["order"]))) for _ in range(2)]
    assert not isinstance(first, Duplicate)
    assert isinstance(second, Duplicate)


def test_without_a_key_nothing_is_sent(tmp_path: Path) -> None:
    broker = build(Settings(database_url=f"sqlite:///{tmp_path / 'h.db'}"))

    @dramatiq.actor(broker=broker, sensitive=True)
    def act(text: str) -> None: ...

    with pytest.raises(Refusal, match="act: there is no key to encrypt it with: set HARELINE_KEYS"):
        act.send(CARD)


def test_a_direct_call_logs_no_arguments(broker: Broker, caplog: pytest.LogCaptureFixture) -> None:
    @dramatiq.actor(broker=broker, sensitive=True)
    def act(text: str) -> None: ...

    with caplog.at_level(logging.DEBUG):
        act(CARD)
    assert "Received arguments that are encrypted." in caplog.messages
    assert CARD not in caplog.text


def test_of_a_job_with_secrets_no_argument_is_logged(broker: Broker, caplog: pytest.LogCaptureFixture) -> None:
    @dramatiq.actor(broker=broker, sensitive=True)
    def act(text: str) -> None: ...

    keep_worker_quiet()
    job = JobMessage(act.message(CARD), Claim("id", Verdict.RUN), settle=lambda message, answer: None)
    job.seal = Seal(broker.ring, "id")  # it was opened: its arguments are in clear
    logging.getLogger("dramatiq.worker.WorkerThread").error("Failed to process message %s.", job)
    assert "Failed to process message act(…)." in caplog.messages


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ("2026-11:c2hvcnQ=", "the key '2026-11' has 5"),
        (f"a:{KEY},a:{KEY}", "'a' is given twice"),
        ("a:not base64!", "the key 'a' is not"),
        (f"a:{KEY},{KEY}", "entry 2 has no id"),
        (f"a b:{KEY}", "entry 1 has no id"),
    ],
)
def test_a_bad_key_is_refused_by_its_id_and_quoted_nowhere(keys: str, why: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=why) as refused:
        load({"HARELINE_KEYS": keys}, tmp_path)
    assert "hareline keys generate" in str(refused.value)
    for part in keys.split(","):
        assert part.partition(":")[2] == "" or part.partition(":")[2] not in str(refused.value)


def test_keys_are_masked_wherever_settings_are_shown(tmp_path: Path) -> None:
    settings = load({"HARELINE_KEYS": KEYS}, tmp_path)
    assert KEY not in repr(settings)
    assert KEY not in repr(settings.explain())


def test_an_actor_declared_after_a_message_to_its_name_is_as_secret_as_it_says(broker: Broker) -> None:
    message: Message[Any] = Message("default", "late", (CARD,), {}, {})
    assert CARD.encode() in job_of(broker, message).body

    @dramatiq.actor(broker=broker, sensitive=True)
    def late(card: str) -> None: ...

    assert CARD.encode() not in job_of(broker, message).body

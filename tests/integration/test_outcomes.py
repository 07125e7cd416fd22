"""What an actor returns: a ``Failure``, or a result, typed and bounded; with a worker, on both databases."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import dramatiq
import pytest
from dramatiq import Worker, pipeline
from dramatiq.middleware import Shutdown
from dramatiq.results import ResultFailure, ResultMissing
from pydantic import BaseModel

from broker import Broker, build
from errors import Failure, InvalidActor, InvalidResult, RateLimited, ResultTooLarge, Snooze
from ledger.records import Keep
from ledger.states import Outcome, Reason, State
from ledger.views import JobView
from settings import Settings


class Invoice(BaseModel):
    number: int
    total: Decimal
    at: datetime


@dataclass
class Point:
    x: float
    y: float


@pytest.fixture
def broker(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Broker]:
    found = build(Settings(database_url=database_url, max_result_bytes=1_000))
    monkeypatch.setattr(dramatiq.broker, "global_broker", found)  # of whom a message asks its result
    yield found
    found.close()


@contextmanager
def working(broker: Broker) -> Iterator[None]:
    worker = Worker(broker, worker_timeout=20)
    worker.start()
    try:
        yield
    finally:
        worker.stop()


def finished(broker: Broker, *messages: Any) -> list[JobView]:
    """The jobs of these messages, when a worker has done everything there is."""
    with working(broker):
        broker.join("default", timeout=20_000)
    jobs = [broker.queries.job(message.message_id) for message in messages]
    return [job for job in jobs if job is not None]


def returns(broker: Broker, fn: Callable[[], Any], **options: Any) -> Any:
    return dramatiq.actor(broker=broker, store_results=True, **options)(fn)


def test_a_returned_failure_is_a_dead_letter_at_once_with_its_text_and_code(broker: Broker) -> None:
    @dramatiq.actor(broker=broker, store_results=True)
    def look_up(name: str) -> int | Failure:
        return Failure(f"no customer {name}", code="no_such_customer") if name == "Eve" else 42

    @dramatiq.actor(broker=broker, store_results=True)
    def parse(text: str) -> Failure:
        return Failure(ValueError(text))

    messages = [look_up.send("Eve"), look_up.send("Ada"), parse.send("not a date")]
    eve, ada, parsed = finished(broker, *messages)
    assert (eve.state, eve.reason, eve.attempts_spent) == (State.FAILED, Reason.FAILURE, 1)
    assert [(x.outcome, x.error_type, x.error_message) for x in eve.attempts] == [
        (Outcome.FAILED, "no_such_customer", "no customer Eve")
    ]
    assert (parsed.attempts[0].error_type, parsed.attempts[0].error_message) == (
        "errors.Failure",
        "ValueError: not a date",
    )
    assert ada.state is State.COMPLETED
    assert messages[1].get_result() == 42
    with pytest.raises(ResultFailure, match="no customer Eve") as caught:
        messages[0].get_result()
    assert caught.value.orig_exc_type == "no_such_customer"


def test_what_follows_a_success_does_not_follow_a_failure(broker: Broker) -> None:
    followed: list[tuple[str, Any]] = []

    @dramatiq.actor(broker=broker)
    def after(*what: Any) -> None:
        followed.append(("after", what[-1]))

    @dramatiq.actor(broker=broker)
    def succeeded(message: dict[str, Any], result: Any) -> None:
        followed.append(("succeeded", result))

    @dramatiq.actor(broker=broker)
    def failed(message: dict[str, Any], error: dict[str, str]) -> None:
        followed.append(("failed", error["message"]))

    @dramatiq.actor(broker=broker, atomic_sends=True, on_success="succeeded", on_failure="failed")
    def give_up() -> Failure:
        after.send("its child")
        return Failure("no")

    @dramatiq.actor(broker=broker)
    async def give_up_later() -> Failure:
        return Failure("never")

    messages = [give_up.send(), pipeline([give_up_later.message(), after.message()], broker=broker).run().messages[0]]
    jobs = finished(broker, *messages)
    assert [job.reason for job in jobs] == [Reason.FAILURE, Reason.FAILURE]
    assert followed == [("failed", "no")]


def test_on_failure_is_sent_for_attempts_that_failed_and_for_no_other_ending(broker: Broker) -> None:
    mourned: list[str] = []

    @dramatiq.actor(broker=broker)
    def mourn(message: dict[str, Any], error: dict[str, str]) -> None:
        mourned.append(error["message"])

    endings: dict[str, list[BaseException]] = {
        "snoozed": [Snooze(0, "snoozed"), Snooze(0, "snoozed")],
        "limited": [RateLimited(0, "limited")],
        "a deploy": [Shutdown("a deploy")],
        "failed": [ValueError("failed"), ValueError("failed")],
    }

    @dramatiq.actor(broker=broker, on_failure="mourn", max_retries=5, min_backoff=0, max_backoff=0)
    def poll(kind: str) -> None:
        if endings[kind]:
            raise endings[kind].pop()

    jobs = finished(broker, *[poll.send(kind) for kind in endings])
    assert {job.state for job in jobs} == {State.COMPLETED}
    assert mourned == ["failed", "failed"]


def test_a_code_that_is_no_word_is_refused() -> None:
    with pytest.raises(ValueError, match="its code has letters"):
        Failure("no", code="no such customer")


def test_results_are_written_by_the_return_annotation_and_read_as_json(broker: Broker) -> None:
    then = datetime(2026, 7, 1, tzinfo=UTC)

    def model() -> Invoice:
        return Invoice(number=1, total=Decimal("1.10"), at=then)

    def mapping() -> Invoice:
        return {"number": "2", "total": 3, "at": "2026-07-01T00:00:00Z"}  # type: ignore[return-value]

    def points() -> list[Point]:
        return [Point(1, 2)]

    def maybe() -> Decimal | None:
        return Decimal("0.1")

    def nothing() -> None:
        return None

    def unsaid():  # type: ignore[no-untyped-def]
        return [1, "two"]

    sent = [returns(broker, fn).send() for fn in (model, mapping, points, maybe, nothing, unsaid)]
    finished(broker, *sent)
    assert [message.get_result() for message in sent] == [
        {"number": 1, "total": "1.10", "at": "2026-07-01T00:00:00Z"},
        {"number": 2, "total": "3", "at": "2026-07-01T00:00:00Z"},
        [{"x": 1.0, "y": 2.0}],
        "0.1",
        None,
        [1, "two"],
    ]


def test_a_result_that_does_not_fit_is_recorded_as_such_and_the_job_is_not_run_again(broker: Broker) -> None:
    ran: list[int] = []

    def count() -> list[int]:
        ran.append(1)
        return [1, "two", None]  # type: ignore[list-item]

    def weird() -> object:
        return object()

    def loose() -> int:
        return "seven"  # type: ignore[return-value]

    sent = [returns(broker, count).send(), returns(broker, weird).send(), returns(broker, loose, validate=False).send()]
    counted, odd, _ = finished(broker, *sent)
    assert ran == [1]
    assert (counted.state, counted.reason) == (State.COMPLETED, None)
    [attempt] = counted.attempts
    assert (attempt.outcome, attempt.error_type) == (Outcome.COMPLETED, "errors.InvalidResult")
    with pytest.raises(InvalidResult, match=r"count: what it returned, a list, does not fit .* \(1: .* and 1 more\)"):
        sent[0].get_result(block=True)
    assert odd.attempts[0].error_type == "errors.InvalidResult"
    with pytest.raises(InvalidResult, match="cannot be written as JSON"):
        sent[1].get_result()
    assert sent[2].get_result() == "seven", "validate=False writes it as it is"


def test_a_result_over_the_limit_is_refused_and_who_asks_is_told(broker: Broker) -> None:
    def long() -> str:
        return "x" * 999

    def short() -> str:
        return "x" * 998

    sent = [returns(broker, long).send(), returns(broker, short).send()]
    refused, kept = finished(broker, *sent)
    assert (refused.state, refused.attempts[0].error_type) == (State.COMPLETED, "errors.ResultTooLarge")
    with pytest.raises(ResultTooLarge, match=r"1,001 bytes, the limit is 1,000; .*HARELINE_MAX_RESULT_BYTES"):
        sent[0].get_result()
    assert (kept.attempts[0].error_type, sent[1].get_result()) == (None, "x" * 998)


def test_a_result_lives_as_long_as_its_ttl_and_is_then_pruned(broker: Broker) -> None:
    def answer() -> int:
        return 42

    actor = returns(broker, answer, result_ttl=60_000)
    sent = [actor.send(), actor.send_with_options(result_ttl=1)]
    jobs = finished(broker, *sent)
    assert sent[0].get_result() == 42
    assert jobs[0].result is not None
    assert 50 < (jobs[0].result.expires_at - jobs[0].finished_at).total_seconds() <= 60  # type: ignore[operator]
    with pytest.raises(ResultMissing):
        sent[1].get_result()
    session = broker.ledger.session("retention")
    session.retain({}, Keep(), history_s=1e6)
    session.close()
    left = [broker.queries.job(message.message_id) for message in sent]
    assert [job is not None and job.result is not None for job in left] == [True, False]


def test_a_worker_does_not_start_with_results_pydantic_cannot_write(broker: Broker) -> None:
    class Opaque: ...

    def answer() -> Opaque:
        return Opaque()

    returns(broker, answer)
    worker = Worker(broker, worker_timeout=20)
    with pytest.raises(InvalidActor, match=r"'answer': its results cannot be written .*validate=False"):
        worker.start()
    worker.stop()

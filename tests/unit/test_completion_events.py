"""What a completion event may look like, and what it costs."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from actors.events import CompletionEvent, InvalidEvent
from actors.prices import UnknownModel, cost
from errors import Discard

EVENT: dict[str, Any] = {
    "request_id": "req_1",
    "customer": "northwind",
    "user": "ada",
    "provider": "openai",
    "model": "gpt-4o",
    "input_tokens": 1000,
    "output_tokens": 100,
    "cached_tokens": 400,
    "latency_ms": 1200,
    "at": "2026-11-01T00:30:00+01:00",
}


def test_an_event_is_read_with_its_billing_period_in_utc() -> None:
    completion = CompletionEvent.parse(EVENT)

    assert completion.at == datetime(2026, 10, 31, 23, 30, tzinfo=UTC)
    assert completion.period == "2026-10"


def test_an_event_survives_the_way_through_json() -> None:
    completion = CompletionEvent.parse(EVENT)

    assert CompletionEvent.parse(completion.model_dump(mode="json")) == completion


def test_fields_of_a_newer_sender_are_ignored() -> None:
    assert CompletionEvent.parse(EVENT | {"temperature": 0.7}) == CompletionEvent.parse(EVENT)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"input_tokens": -1}, "input_tokens"),
        ({"input_tokens": "1000"}, "input_tokens"),
        ({"output_tokens": 1.5}, "output_tokens"),
        ({"output_tokens": True}, "output_tokens"),
        ({"cached_tokens": 1001}, r"cached_tokens \(1001\) cannot exceed input_tokens \(1000\)"),
        ({"at": "2026-11-01T00:30:00"}, "at: Input should have timezone info"),
        ({"at": "yesterday"}, "at"),
        ({"customer": ""}, "customer"),
        ({"user": None}, "user"),
        ({"request_id": "x" * 201}, "request_id"),
    ],
)
def test_a_malformed_event_is_refused_naming_the_field(change: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidEvent, match=named):
        CompletionEvent.parse(EVENT | change)


def test_every_wrong_field_is_named_at_once() -> None:
    with pytest.raises(InvalidEvent, match=r"request_id: Field required; .*model: Field required"):
        CompletionEvent.parse({})


def test_refusals_are_dead_letters_without_retries() -> None:
    assert issubclass(InvalidEvent, Discard)
    assert issubclass(UnknownModel, Discard)


def test_a_cost_is_exact_and_cached_tokens_are_cheaper() -> None:
    # $2.50 per million input tokens, $1.25 for cached ones, $10 per million output tokens.
    assert cost(CompletionEvent.parse(EVENT)) == Decimal("0.0030")
    assert cost(CompletionEvent.parse(EVENT | {"cached_tokens": 0})) == Decimal("0.0035")


def test_a_price_that_went_through_a_float_is_cleaned_by_rounding_to_twelve_decimals() -> None:
    amount = cost(CompletionEvent.parse(EVENT | {"input_tokens": 7, "output_tokens": 3, "cached_tokens": 1}))

    assert amount == Decimal("0.000046250000")
    assert amount.as_tuple().exponent == -12


@pytest.mark.parametrize(("provider", "model"), [("openai", "gpt-nobody-sells"), ("in-house", "gpt-4o")])
def test_an_unknown_model_is_an_error_naming_provider_and_model(provider: str, model: str) -> None:
    with pytest.raises(UnknownModel, match=f"model {model!r} of provider {provider!r}") as refused:
        cost(CompletionEvent.parse(EVENT | {"provider": provider, "model": model}))

    assert (refused.value.provider, refused.value.model) == (provider, model)

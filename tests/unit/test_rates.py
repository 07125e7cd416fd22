"""Rates, as actors and settings write them, and what is refused by name."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import dramatiq
import pytest

from broker import build
from errors import InvalidActor, SettingsError
from middleware.rates import Rate
from settings import Settings, load


@pytest.mark.parametrize(
    ("text", "count", "per_s"),
    [("10/s", 10, 1), ("0.5/s", 0.5, 1), ("100/5m", 100, 300), ("1000/h", 1000, 3600), (" 1/2d ", 1, 172_800)],
)
def test_a_rate_is_read(text: str, count: float, per_s: float) -> None:
    assert Rate.parse(text) == Rate(count, per_s)


@pytest.mark.parametrize("text", ["", "10", "10/", "/s", "ten/s", "10/y", "-1/s", "0/s", "5/0s", "1e3/s"])
def test_a_text_that_is_no_rate_is_refused_in_code_and_in_settings(text: str) -> None:
    with pytest.raises(ValueError, match="so many starts in a time: 10/s"):
        Rate.parse(text)
    with pytest.raises(SettingsError, match=r"queues\.email\.rate"):
        load({"HARELINE_QUEUES__EMAIL__RATE": text or " "})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"count": 0}, "count is a number above 0, got 0"),
        ({"count": True}, "count"),
        ({"count": 1, "per": timedelta(0)}, "per is a number above 0"),
        ({"count": 1, "per": float("inf")}, "per"),
        ({"count": 1, "burst": 0}, "burst is a whole number"),
        ({"count": 1, "key": "user id"}, "key is the name of a parameter"),
    ],
)
def test_a_rate_that_cannot_be_is_refused_by_name(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Rate(**options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rate_limit": "10/s"}, "a Rate or a list of them, got '10/s'"),
        ({"rate_limit": [Rate(1), Rate(2)]}, "two rates for all its jobs"),
        ({"rate_limit": Rate(1, key="usr.name")}, "'usr' is no parameter of it; the nearest is 'user'"),
        ({"cost": 0}, "cost is a whole number of at least 1, got 0"),
    ],
)
def test_an_actor_whose_limits_mean_nothing_is_refused_by_name(
    tmp_path: Path, options: dict[str, Any], words: str
) -> None:
    broker = build(Settings(database_url=f"sqlite:///{tmp_path / 'hareline.db'}"))

    def mail(user: str, text: str = "") -> None: ...

    with pytest.raises(InvalidActor, match=f"mail.*{words}"):
        dramatiq.actor(broker=broker, **options)(mail)
    broker.close()

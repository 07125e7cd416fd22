"""What an actor may say of its circuit."""

from datetime import timedelta
from typing import Any

import dramatiq
import pytest
from dramatiq import Retry
from dramatiq.middleware import Shutdown, TimeLimitExceeded

from broker import Broker, build
from errors import Cancelled, Discard, Failure, InvalidActor, RateLimited, Snooze
from ledger.breaker import Rule
from middleware.circuit import Circuit
from middleware.circuits import Circuits
from settings import Settings


@pytest.fixture
def broker(tmp_path: Any) -> Broker:
    return build(Settings(database_url=f"sqlite:///{tmp_path / 'hareline.db'}"))


def declare(broker: Broker, name: str, circuit: object) -> None:
    def act() -> None: ...

    dramatiq.actor(actor_name=name, broker=broker, circuit=circuit)(act)


def used(broker: Broker) -> dict[str, tuple[Circuit, list[str]]]:
    [middleware] = [middleware for middleware in broker.middleware if isinstance(middleware, Circuits)]
    return dict(middleware.used)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"name": "a b"}, "letters, digits, dots, dashes and underscores, got 'a b'"),
        ({"failures": 0}, "'c': failures is a part of the calls, above 0 and at most 1, got 0"),
        ({"failures": 50}, "got 50"),
        ({"of": 0}, "of is a whole number of at least 1, got 0"),
        ({"probes": True}, "probes is a whole number of at least 1, got True"),
        ({"within": 0}, "within is a number of seconds from 0.001 to a year, got 0"),
        ({"open_for": float("nan")}, "open_for is a number of seconds"),
        ({"open_for": timedelta(days=400)}, "open_for is a number of seconds"),
        ({"open_for": 60, "longest": 30}, r"longest \(30\) is below open_for \(60\)"),
        ({"counts": ()}, "counts is an exception class, or several"),
        ({"counts": (ValueError, 500)}, "counts is an exception class, or several"),
        ({"counts": (ValueError, RateLimited)}, "RateLimited never counts"),
    ],
)
def test_a_circuit_that_means_nothing_is_refused_with_what_and_why(values: dict[str, Any], says: str) -> None:
    with pytest.raises((ValueError, TypeError), match=says):
        Circuit(**{"name": "c", **values})


def test_times_are_seconds_or_timedeltas() -> None:
    assert Circuit("c", within=timedelta(minutes=1), open_for=0.5, longest=timedelta(seconds=2)).rule == Rule(
        0.5, 20, 60_000_000, 500_000, 2_000_000, 1
    )
    assert Circuit("c", open_for=3600).rule.longest == 3_600_000_000


def test_what_says_nothing_of_the_other_side_never_counts() -> None:
    circuit = Circuit("c", counts=BaseException)
    silent = [Discard(), Failure("x"), Snooze(1), RateLimited(1), Cancelled(), Shutdown()]
    assert not any(circuit.fails(exception) for exception in silent)
    assert all(Circuit("c").fails(exception) for exception in (OSError(), Retry(), TimeLimitExceeded()))
    assert [Circuit("c", counts=OSError).fails(exception) for exception in (TimeoutError(), ValueError())] == [
        True,
        False,
    ]


def test_actors_share_a_circuit_by_its_name_whoever_describes_it(broker: Broker) -> None:
    described = Circuit("upstream", of=3)
    declare(broker, "first", "upstream")
    declare(broker, "second", described)
    declare(broker, "third", "upstream")
    declare(broker, "fourth", Circuit("upstream", of=3))
    assert used(broker) == {"upstream": (described, ["first", "fourth", "second", "third"])}


def test_a_circuit_described_twice_in_different_ways_is_refused(broker: Broker) -> None:
    declare(broker, "first", Circuit("upstream", of=3))
    with pytest.raises(InvalidActor, match="'second': circuit 'upstream' is described differently by another actor"):
        declare(broker, "second", Circuit("upstream", of=4))


@pytest.mark.parametrize("given", [3, "no name", ["upstream"]])
def test_an_actor_whose_circuit_is_none_is_refused(broker: Broker, given: object) -> None:
    with pytest.raises(InvalidActor, match="actor 'act': circuit"):
        declare(broker, "act", given)

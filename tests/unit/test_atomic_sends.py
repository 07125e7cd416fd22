"""What can be said of atomic_sends without a worker; the rest is in tests/acceptance."""

from pathlib import Path

import dramatiq
import pytest
from dramatiq.middleware import MiddlewareError

from broker import Broker, build
from settings import Settings


@pytest.fixture
def broker(tmp_path: Path) -> Broker:
    return build(Settings(database_url=f"sqlite:///{tmp_path / 'hareline.db'}"))


def test_an_async_actor_is_refused_by_name(broker: Broker) -> None:
    async def fan_out() -> None: ...

    with pytest.raises(MiddlewareError, match="fan_out is async"):
        dramatiq.actor(broker=broker, atomic_sends=True)(fan_out)


def test_called_directly_an_actor_sends_at_once(broker: Broker) -> None:
    @dramatiq.actor(broker=broker)
    def child() -> None: ...

    @dramatiq.actor(broker=broker, atomic_sends=True)
    def parent() -> None:
        child.send()

    parent()

    assert {queue: sum(states.values()) for queue, states in broker.queries.counts().items()} == {"default": 1}
    broker.close()

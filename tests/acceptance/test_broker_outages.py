"""RabbitMQ is stopped, killed, wiped, blocked and cut off under load: nothing is lost, and no send() waits for it."""

from collections import Counter
from collections.abc import Callable

import pytest

from tests.acceptance.rabbit import Rabbit, settled
from tests.acceptance.system import System
from tests.servers import RabbitMQ

SEND = "lambda line: record.send(log, line)"


@pytest.fixture
def rabbit(rabbitmq: RabbitMQ, on_rabbitmq: System) -> Rabbit:
    assert on_rabbitmq.broker_url is not None
    return Rabbit(rabbitmq, on_rabbitmq.broker_url)


@pytest.mark.parametrize("down", [RabbitMQ.stop, RabbitMQ.kill], ids=["stopped", "killed"])
def test_rabbitmq_may_go_away_under_load(
    on_rabbitmq: System, rabbit: Rabbit, down: Callable[[RabbitMQ], None]
) -> None:
    system, server = on_rabbitmq, rabbit.server
    system.worker(processes=2)
    with system.producer(SEND) as producer:
        system.until(lambda: len(system.ran()) > 50, because="before the outage")
        down(server)
        before = count_jobs(system)
        system.until(lambda: count_jobs(system) > before + 100, because="for jobs sent while RabbitMQ was away")
        server.start()
        ran = len(system.ran())
        system.until(lambda: len(system.ran()) > ran + 50, because="after the outage")
        produced = producer.stop()
    assert not produced.refused
    assert produced.slowest_s < 1.0
    assert system.finished(len(produced.sent)) == {"completed": len(produced.sent)}
    assert Counter(system.ran()) == Counter(produced.sent)
    settled(system, rabbit)


def count_jobs(system: System) -> int:
    [(count,)] = system.sql("SELECT count(*) FROM jobs")
    assert isinstance(count, int)
    return count

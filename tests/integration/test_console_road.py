"""What the console's API says of RabbitMQ, there, away and not used."""

from collections.abc import Iterator

import dramatiq
import pytest
from pika import BlockingConnection, URLParameters
from starlette.testclient import TestClient

from broker import build as build_broker
from control.road import Road
from dashboard.app import build
from settings import Settings
from tests.collect import eventually
from tests.faultproxy import FaultProxy
from tests.servers import RabbitMQ

pytestmark = pytest.mark.prove


class World:
    """A producer and a console on RabbitMQ, with proxies to cut them off."""

    def __init__(self, database_url: str, rabbitmq: RabbitMQ, url: str, amqp: FaultProxy, api: FaultProxy) -> None:
        self.ways = (amqp, api)
        self.url = url
        self.management = api.url(f"{rabbitmq.management_url}/")
        self.broker = build_broker(Settings(database_url=database_url, broker_url=url))

        @dramatiq.actor(broker=self.broker, queue_name="letters")
        def post(to: str) -> None: ...

        self.post = post
        settings = Settings(
            database_url=database_url,
            broker_url=amqp.url(url),
            rabbitmq_management_url=self.management,
            console_insecure_local=True,
        )
        self.app = build(settings, broker=self.broker)
        found = self.app.state.services.road
        assert isinstance(found, Road)
        self.road = found

    def send(self, count: int) -> list[str]:
        sent = [self.post.send(str(n)).message_id for n in range(count)]
        assert self.broker.road.flush(30)
        return sent


@pytest.fixture
def world(postgres_url: str, rabbitmq: RabbitMQ, rabbitmq_url: str) -> Iterator[World]:
    ports = [int(url.rpartition(":")[2].partition("/")[0]) for url in (rabbitmq_url, rabbitmq.management_url)]
    with FaultProxy(ports[0]) as amqp, FaultProxy(ports[1]) as api:
        yield World(postgres_url, rabbitmq, rabbitmq_url, amqp, api)


def page(api: TestClient, path: str) -> str:
    answer = api.get(f"http://127.0.0.1{path}", headers={"accept": "text/html"})
    assert answer.status_code == 200, answer.text
    return answer.text


def test_a_queue_is_shown_with_its_messages_and_as_unknown_when_rabbitmq_is_away(world: World) -> None:
    with TestClient(world.app, base_url="http://127.0.0.1/api/v1/") as api:
        world.send(3)

        def road() -> dict[str, object]:
            world.road.look()
            found = api.get("queues/letters").json()["road"]
            assert isinstance(found, dict)
            return found

        eventually(lambda: road()["ready"] == 3, "the statistics are in")
        there = road()
        assert (there["known"], there["exists"], there["unacknowledged"], there["consumers"]) == (True, True, 0, 0)
        assert (there["source"], there["why"], there["faults"]) == ("management", "", [])
        vhost = world.url.rpartition("/")[2]
        base = world.management.rpartition("@")[2].rstrip("/")
        assert there["link"] == f"http://{base}/#/queues/{vhost}/letters"
        assert there["as_of"]
        whole = api.get("road").json()
        assert (whole["known"], whole["alarms"], whole["blocked"], whole["disagreements"]) == (True, [], 0, [])
        assert "RabbitMQ 3." in (seen := page(api, "/")) or "RabbitMQ 4." in seen
        assert f'href="{there["link"]}" rel="noreferrer"' in page(api, "/queues/letters")
        for way in world.ways:
            way.refuse()
        away = road()
        assert (away["known"], away["exists"]) == (False, None)
        assert [away[name] for name in ("ready", "unacknowledged", "consumers", "published")] == [None] * 4
        assert away["as_of"]
        assert away["why"]
        assert away["link"] == there["link"]
        whole = api.get("road").json()
        assert (whole["known"], whole["alarms"], whole["blocked"], whole["version"]) == (False, None, None, None)
        assert api.get("queues/letters").json()["counts"] == {"waiting": 3}  # the ledger is not away
        assert page(api, "/dramatiq/").count(">unknown<") == 3
        assert "RabbitMQ unknown, as of <time" in page(api, "/")
        assert (
            page(api, "/queues/letters").count(">unknown<") == 10
        )  # five figures of the queue and of its dead letters
        for way in world.ways:
            way.refuse(False)
        assert road()["ready"] == 3


def test_what_the_ledger_and_rabbitmq_do_not_agree_on_is_told_when_it_lasts(world: World) -> None:
    services = world.app.state.services
    world.send(3)
    known = world.road

    def compared() -> str:
        known.look()
        known.compare()
        return known.state().trouble

    eventually(lambda: compared() == "" and known.queue("letters").ready == 3, "the statistics are in")
    with BlockingConnection(URLParameters(world.url)) as connection:
        connection.channel().queue_purge("letters")
    eventually(lambda: "3 are missing" in compared(), "it lasted")
    assert "`hareline rebuild --queue letters`" in compared()
    services.close()


def test_a_queue_with_other_arguments_is_shown_with_what_differs(world: World) -> None:
    with BlockingConnection(URLParameters(world.url)) as connection:
        connection.channel().queue_declare("letters", durable=True, arguments={"x-max-length": 5})
        connection.channel().queue_bind("letters", "amq.fanout")
    world.road.look()
    faults = world.road.queue("letters").faults
    assert "x-max-length is 5, the topology has not set" in faults
    assert "it is bound to exchange 'amq.fanout' by 'letters', the topology has no bindings" in faults
    assert "queue letters: " in world.road.state().trouble
    world.app.state.services.close()


def test_without_rabbitmq_there_is_no_road(database_url: str) -> None:
    settings = Settings(database_url=database_url, console_insecure_local=True)
    broker = build_broker(settings)

    @dramatiq.actor(broker=broker, queue_name="letters")
    def post(to: str) -> None: ...

    with TestClient(build(settings, broker=broker), base_url="http://127.0.0.1/api/v1/") as api:
        assert api.get("queues/letters").json()["road"] is None
        assert api.get("road").status_code == 404

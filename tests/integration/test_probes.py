"""Whoever runs the console is told, without a login, whether it lives and can do its work, and nothing else."""

from collections.abc import Iterator

import psycopg
import pytest
from starlette.testclient import TestClient

from broker import build as build_broker
from dashboard.app import build
from settings import Settings

pytestmark = pytest.mark.one_database

OK, UNAVAILABLE = (200, "ok"), (503, "unavailable")


def console(settings: Settings) -> TestClient:
    return TestClient(build(settings, broker=build_broker(settings)), base_url="http://10.0.0.7")


@pytest.fixture
def client(database_url: str) -> Iterator[TestClient]:
    with console(Settings(database_url=database_url)) as opened:
        yield opened


def told(client: TestClient, path: str, method: str = "GET", **headers: str) -> tuple[int, str]:
    answer = client.request(method, path, headers=headers)
    return answer.status_code, answer.text


def test_a_console_that_is_well_says_so_to_whoever_asks_whatever_they_send_along(client: TestClient) -> None:
    for path in ("/livez", "/readyz", "/readyz?exclude=broker&exclude=database"):
        assert told(client, path) == OK
        assert told(client, path, authorization="Bearer of nothing") == OK
        assert told(client, path, method="HEAD") == (200, "")
        assert client.post(path).status_code in (401, 405)


def test_a_ledger_that_is_away_makes_it_not_ready_and_alive(postgres_url: str) -> None:
    with console(Settings(database_url=postgres_url.rpartition("/")[0] + "/nothing_of_that_name")) as client:
        assert told(client, "/livez") == OK
        assert told(client, "/readyz") == UNAVAILABLE
        assert told(client, "/readyz", cookie="hareline_session=x") == UNAVAILABLE


def test_a_schema_of_other_code_makes_it_not_ready(postgres_url: str) -> None:
    with psycopg.connect(postgres_url) as connection:
        connection.execute("UPDATE hareline_revision SET version_num = '0001'")
    with console(Settings(database_url=postgres_url)) as client:
        assert told(client, "/readyz") == UNAVAILABLE
        assert told(client, "/readyz?exclude=migrations") == OK


def test_a_rabbitmq_that_is_away_makes_it_not_ready_unless_that_is_left_out(database_url: str) -> None:
    settings = Settings(database_url=database_url, broker_url="amqp://nobody:nothing@127.0.0.1:1/%2F")
    with console(settings) as client:
        assert told(client, "/readyz") == UNAVAILABLE
        assert told(client, "/readyz?exclude=broker") == OK
        assert client.get("/readyz?exclude=everything").status_code == 422

"""Fixtures of the tests that share a database: a new one for each would cost more than all they do."""

from collections.abc import Iterator

import pytest

from ledger import Road
from ledger.migrate import Migrations
from tests.ledger_under_test import LedgerUnderTest
from tests.servers import Postgres


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def shared_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('shared') / 'ledger.db'}"
    else:
        server: Postgres = request.getfixturevalue("postgres")
        url = server.create_database()
    Migrations(url).upgrade()
    return url


@pytest.fixture(params=["rabbitmq", "embedded"])
def on_any_road(request: pytest.FixtureRequest, shared_url: str) -> Iterator[LedgerUnderTest]:
    road: Road = request.param
    found = LedgerUnderTest(shared_url, road)
    yield found
    found.close()

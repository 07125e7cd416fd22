"""Fixtures: real servers for the session, a fresh database or vhost for every test."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from ledger.migrate import Migrations
from tests.servers import Postgres, RabbitMQ
from tests.servers.unpack import root_of


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A test's folder is its marker: unit, integration or acceptance.  Those for ``make prove`` are left to it."""
    tests = Path(__file__).parent
    for item in items:
        item.add_marker(item.path.relative_to(tests).parts[0])
    if os.environ.get("HARELINE_TEST_ROADS") != "all":
        later = [item for item in items if item.get_closest_marker("prove") or _second_database(item)]
        config.hook.pytest_deselected(items=later)
        items[:] = [item for item in items if item not in later]


def _second_database(item: pytest.Item) -> bool:
    """Of tests above the ledger, which itself is tested on both databases, ``make test`` runs those on SQLite."""
    parameters = getattr(item, "callspec", None)
    on = parameters.params.get("database_url") if parameters is not None else None
    return on == "postgresql" and item.get_closest_marker("one_database") is not None


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """The session's PostgreSQL.  A test may stop, restart or kill it: the next test's fixtures start it again."""
    server = Postgres()
    server.start()
    yield server
    server.remove()


@pytest.fixture(scope="session")
def rabbitmq() -> Iterator[RabbitMQ]:
    """The session's RabbitMQ.  A test may stop, kill or wipe it: the next test's fixtures start it again."""
    version = os.environ.get("HARELINE_TEST_RABBITMQ")
    server = RabbitMQ(root=root_of(version) if version else None)
    server.start()
    yield server
    server.remove()


@pytest.fixture(scope="session")
def _postgres_template(postgres: Postgres) -> str:
    url = postgres.create_database()
    Migrations(url).upgrade()
    return url.rpartition("/")[2]


@pytest.fixture(scope="session")
def _sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ledger") / "template.db"
    Migrations(f"sqlite:///{path}").upgrade()
    return path


@pytest.fixture
def postgres_url(postgres: Postgres, _postgres_template: str) -> Iterator[str]:
    """A fresh, migrated PostgreSQL database."""
    postgres.start()
    url = postgres.create_database(template=_postgres_template)
    yield url
    postgres.start()
    postgres.drop_database(url)


@pytest.fixture
def sqlite_url(tmp_path: Path, _sqlite_template: Path) -> str:
    """A fresh, migrated SQLite file."""
    shutil.copy(_sqlite_template, tmp_path / "hareline.db")
    return f"sqlite:///{tmp_path / 'hareline.db'}"


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """The test runs twice: on SQLite and on PostgreSQL."""
    name = "sqlite_url" if request.param == "sqlite" else "postgres_url"
    url = request.getfixturevalue(name)
    assert isinstance(url, str)
    return url


@pytest.fixture
def rabbitmq_url(rabbitmq: RabbitMQ) -> Iterator[str]:
    """A fresh vhost, as the AMQP URL of a user with full rights."""
    rabbitmq.start()
    url = rabbitmq.new_vhost()
    yield url
    rabbitmq.start()
    rabbitmq.delete_vhost(url)

"""Fixtures of the tests that share a database: a new one for each would cost more than all they do."""

import sys
from collections.abc import Iterator

import dramatiq
import pytest

from actors.database import migrations
from actors.per_process import per_process
from broker import Broker, build
from control import Control
from hareline_testing import Hareline
from ledger import Road, open_ledger
from ledger.audit_queries import AuditQueries
from ledger.engine import Database
from ledger.ledger import Session
from ledger.migrate import Migrations
from ledger.queries import Queries
from scheduler import SCHEDULES
from settings import Settings
from tests.chain import ChainServer
from tests.ledger_under_test import LedgerUnderTest
from tests.scripted import OpenAIServer
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


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    yield database
    database.close()


@pytest.fixture
def session(database_url: str) -> Iterator[Session]:
    session = open_ledger(database_url, road="rabbitmq").session("test")
    yield session
    session.close()


@pytest.fixture
def queries(database_url: str) -> Iterator[Queries]:
    queries = Queries(database_url)
    yield queries
    queries.close()


@pytest.fixture
def control(database_url: str) -> Iterator[Control]:
    control = Control(database_url, "rabbitmq")
    yield control
    control.close()


@pytest.fixture
def trail(database_url: str) -> Iterator[AuditQueries]:
    opened = AuditQueries(database_url)
    yield opened
    opened.close()


def _actors_on(url: str, settings: Settings, patch: pytest.MonkeyPatch) -> Broker:
    """The actors of this process, on another broker; ``patch`` puts all back."""
    import actors

    patch.setenv("DATABASE_URL", url)
    patch.setenv("BROKER_URL", "embedded")
    migrations(url).upgrade()
    _forget()
    broker = build(settings)
    for actor in actors.broker.actors.values():
        patch.setattr(actor, "broker", broker)
        patch.setattr(actor, "fn", actor.fn)  # declaring wraps it
        broker.declare_actor(actor)
    patch.setattr(dramatiq.broker, "global_broker", broker)
    return broker


def _forget() -> None:
    """What this process has made once, it makes again."""
    for name, module in list(sys.modules.items()):
        if name.startswith("actors."):
            for value in vars(module).values():
                if isinstance(value, per_process):
                    for made in value._made:
                        if hasattr(made, "close"):
                            made.close()
                    value.forget()


@pytest.fixture
def actors_here(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """The actors of this process work on a fresh database of either kind; the environment can still be changed."""
    broker = _actors_on(database_url, Settings(database_url=database_url), monkeypatch)
    yield monkeypatch
    broker.close()
    _forget()


@pytest.fixture
def kit(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hareline]:
    """The testing kit on all actors of the catalogue."""
    settings = Settings(database_url=sqlite_url, sqlite_synchronous="NORMAL")
    broker = _actors_on(sqlite_url, settings, monkeypatch)
    with Hareline.opened(broker, SCHEDULES) as found:
        yield found
    _forget()


@pytest.fixture
def openai_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenAIServer]:
    """OpenAI, as far as the actors of this process know."""
    with OpenAIServer() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
        yield server


@pytest.fixture(scope="module")
def chain() -> Iterator[ChainServer]:
    """An Ethereum chain; it takes seconds to begin, and who changes it goes back to where it branched."""
    with ChainServer() as server:
        yield server

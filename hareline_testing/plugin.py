"""What pytest loads in every run: one option of its configuration, and the fixtures."""

import importlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from broker import Broker
    from hareline_testing.hareline import Hareline
    from ledger.schedules import Schedule

OPTION = "hareline_actors"
_FOLDER = pytest.StashKey[str]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini(OPTION, "module that declares your Hareline actors; its broker gets a temporary ledger")


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Before anything of the user's is imported: a broker takes its settings when its module is."""
    if not early_config.getini(OPTION):
        return
    folder = tempfile.mkdtemp(prefix="hareline-tests-")
    early_config.stash[_FOLDER] = folder
    early_config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
    ours = {
        "DATABASE_URL": f"sqlite:///{folder}/hareline.db",
        "BROKER_URL": "embedded",
        "HARELINE_SQLITE_SYNCHRONOUS": "NORMAL",
    }
    before = {name: os.environ.get(name) for name in ours}
    os.environ.update(ours)
    early_config.add_cleanup(lambda: _restore(before))


def _restore(variables: dict[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


@pytest.fixture(scope="session")
def hareline_broker(pytestconfig: pytest.Config) -> "Broker":
    """The broker of the module that ``hareline_actors`` names, on the temporary ledger."""
    from broker import Broker

    name = pytestconfig.getini(OPTION)
    if not name:
        raise pytest.UsageError(
            f"the fixture hareline needs to know your actors: write `{OPTION} = actors` (the module that declares "
            "them) below [pytest] in pytest.ini"
        )
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        raise pytest.UsageError(
            f"{OPTION} = {name}: there is no such module; correct it, or write `pythonpath = .` below [pytest]"
        ) from None
    broker = getattr(module, "broker", None)
    if not isinstance(broker, Broker):
        raise pytest.UsageError(
            f"{OPTION} = {name}: that module has no `broker`; declare it there: broker = build(load())"
        )
    if pytestconfig.stash[_FOLDER] not in broker.ledger.url:
        raise pytest.UsageError(
            f"{OPTION} = {name}: its broker is on {broker.ledger.url}, not on the temporary ledger: build it with the "
            "settings that load() returns, and leave DATABASE_URL and BROKER_URL as the plugin set them"
        )
    return broker


@pytest.fixture
def hareline_schedules(hareline_broker: "Broker") -> "Sequence[Schedule]":
    """The schedules of ``scheduler.py``, which send their ticks while the clock is moved, as do those above actors.

    To be overridden.
    """
    from scheduler import SCHEDULES

    return [schedule for schedule in SCHEDULES if schedule.actor in hareline_broker.actors]


@pytest.fixture
def hareline(hareline_broker: "Broker", hareline_schedules: "Sequence[Schedule]") -> "Iterator[Hareline]":
    """Your system, on an empty ledger whose clock stands still."""
    from hareline_testing.hareline import Hareline

    with Hareline.opened(hareline_broker, hareline_schedules) as found:
        yield found

"""A seeded shop with its console, and a browser; ``make prove`` runs these, ``make test`` does not."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from ledger.migrate import Migrations
from tests.acceptance.conftest import on_rabbitmq
from tests.acceptance.system import System, system
from tests.browser import driving, seeding
from tests.browser.driving import Console, Window
from tests.campaigns.conftest import chromium

__all__ = ["chromium", "on_rabbitmq"]


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Real workers that ran a few hundred jobs, some of which failed; on a SQLite file."""
    folder: Path = tmp_path_factory.mktemp("shop")
    url = f"sqlite:///{folder / 'hareline.db'}"
    Migrations(url).upgrade()
    with system(folder, url, None) as found:
        seeding.seed(found)
        yield found


@pytest.fixture(scope="session")
def console(shop: System) -> Iterator[Console]:
    with Console(shop, HARELINE_CONSOLE_ENVIRONMENT="staging").running() as found:
        yield found


@pytest.fixture
def window(chromium: Browser, console: Console) -> Iterator[Window]:
    """A tab in which nothing may go wrong."""
    with driving.window(chromium, console) as found:
        yield found
        assert found.troubles == []
        assert found.dialogs == []

"""Long runs that put a figure to a promise: ``make prove`` runs them, ``make test`` does not."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.acceptance.conftest import anywhere, on_rabbitmq, rabbit, unhurried

if TYPE_CHECKING:
    from playwright.sync_api import Browser

__all__ = ["anywhere", "on_rabbitmq", "rabbit", "unhurried"]


@pytest.fixture(scope="session")
def chromium() -> "Iterator[Browser]":
    from tests.browser import driving  # with it comes playwright, which the other campaigns need not have

    with driving.browser() as found:
        yield found

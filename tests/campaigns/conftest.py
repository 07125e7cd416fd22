"""Long runs that put a figure to a promise: ``make prove`` runs them, ``make test`` does not."""

from tests.acceptance.conftest import anywhere, on_rabbitmq, rabbit, unhurried
from tests.browser.conftest import chromium

__all__ = ["anywhere", "chromium", "on_rabbitmq", "rabbit", "unhurried"]

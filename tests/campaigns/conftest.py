"""Long runs that put a figure to a promise: ``make prove`` runs them, ``make test`` does not."""

from tests.acceptance.conftest import anywhere, on_rabbitmq

__all__ = ["anywhere", "on_rabbitmq"]

"""Real servers for the tests: private, on loopback, gone with whoever started them."""

from tests.servers.postgres import Postgres
from tests.servers.process import ServerError
from tests.servers.rabbitmq import RabbitMQ

__all__ = ["Postgres", "RabbitMQ", "ServerError"]

"""The fixtures: fresh, migrated, and independent of each other."""

from sqlalchemy import create_engine, inspect

from ledger.tables import metadata
from tests.servers import RabbitMQ


def test_a_database_is_fresh_and_migrated(database_url: str) -> None:
    engine = create_engine(database_url)
    tables = set(inspect(engine).get_table_names())
    engine.dispose()
    assert metadata.tables.keys() - tables == set()


def test_a_vhost_is_empty_and_deleted_afterwards(rabbitmq: RabbitMQ, rabbitmq_url: str) -> None:
    vhosts = {row["name"] for row in rabbitmq.api("GET", "/vhosts")}
    assert vhosts == {"/", rabbitmq_url.rpartition("/")[2]}
    assert rabbitmq.api("GET", "/queues") == []

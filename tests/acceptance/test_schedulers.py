"""Every tick exactly once, whoever dies."""

from pathlib import Path

import pytest

from tests.acceptance.schedulers import campaign
from tests.servers import Postgres, RabbitMQ


@pytest.mark.prove
def test_every_tick_is_sent_exactly_once_while_leaders_are_killed_and_servers_restarted(
    tmp_path: Path, postgres: Postgres, postgres_url: str, rabbitmq: RabbitMQ, rabbitmq_url: str
) -> None:
    campaign(tmp_path, postgres, postgres_url, rabbitmq, rabbitmq_url, ticks=24, kill_every_s=7.0, restarts=True)

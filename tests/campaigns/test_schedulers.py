"""A thousand ticks, a leader killed every twenty seconds."""

from pathlib import Path

import pytest

from tests.acceptance.schedulers import campaign
from tests.servers import Postgres, RabbitMQ


@pytest.mark.timeout(1_500)
@pytest.mark.parametrize("restarts", [False, True], ids=["servers stay", "servers are restarted midway"])
def test_a_thousand_ticks_are_sent_exactly_once(
    tmp_path: Path, postgres: Postgres, postgres_url: str, rabbitmq: RabbitMQ, rabbitmq_url: str, restarts: bool
) -> None:
    print(
        campaign(
            tmp_path, postgres, postgres_url, rabbitmq, rabbitmq_url, ticks=1_000, kill_every_s=20.0, restarts=restarts
        )
    )

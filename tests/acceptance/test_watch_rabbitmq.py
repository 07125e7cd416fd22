"""The page about watching RabbitMQ, followed to the letter."""

from pathlib import Path

import pytest

from tests.documents import ROOT, Play, blocks
from tests.program import environment
from tests.servers import RabbitMQ

pytestmark = pytest.mark.prove


def test_the_page_about_rabbitmq_does_what_it_says(
    tmp_path: Path, postgres_url: str, rabbitmq: RabbitMQ, rabbitmq_url: str
) -> None:
    urls = {
        "postgresql://hareline:PASSWORD@127.0.0.1/hareline": postgres_url,
        "amqp://worker:PASSWORD@127.0.0.1/%2F": rabbitmq_url,
        "http://operator:PASSWORD@127.0.0.1:15672": rabbitmq.management_url,
    }
    with Play(tmp_path, environment(PYTHONPATH=str(ROOT)), urls) as play:
        played = [play.play(block) for block in blocks(ROOT / "docs/how-to/watch-rabbitmq.md") if block.words]
    assert len(played) == 4

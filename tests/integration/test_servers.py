"""The test servers themselves: private, and gone with whoever started them."""

import os
import select
import subprocess
import sys
from pathlib import Path

import pika
import psycopg
import pytest

from tests.servers import Postgres, RabbitMQ

_OWNER = """
import sys
from tests.servers import Postgres, RabbitMQ
server = {"postgres": Postgres, "rabbitmq": RabbitMQ}[sys.argv[1]]()
server.start()
print(server._process.directory, flush=True)
sys.stdin.read()
"""


def _processes_mentioning(text: str) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
        except OSError:  # it ended meanwhile
            continue
        if text.encode() in arguments:
            found.append(int(entry.name))
    return found


@pytest.mark.parametrize("server", ["postgres", "rabbitmq"])
def test_servers_vanish_when_their_owner_is_killed(server: str) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", _OWNER, server], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None
    directory = owner.stdout.readline().strip()
    processes = {pid: os.pidfd_open(pid) for pid in _processes_mentioning(directory)}
    assert len(processes) >= 2, "the leash, the server and its children were expected"

    owner.kill()
    owner.communicate()

    for pid, pidfd in processes.items():
        assert _ends(pidfd, timeout_s=10), f"process {pid} outlived its owner"
        os.close(pidfd)
    assert _processes_mentioning(directory) == []
    assert not Path(directory).exists()


def _ends(pidfd: int, timeout_s: float) -> bool:
    ready, _, _ = select.select([pidfd], [], [], timeout_s)
    return bool(ready)


def test_postgres_survives_a_kill_and_a_restart(postgres: Postgres, postgres_url: str) -> None:
    with psycopg.connect(postgres_url) as connection:
        connection.execute("CREATE TABLE kept (n int)")
        connection.execute("INSERT INTO kept VALUES (1)")
    postgres.kill()
    postgres.start()
    postgres.restart()
    with psycopg.connect(postgres_url) as connection:
        assert connection.execute("SELECT n FROM kept").fetchall() == [(1,)]


def test_terminated_connections_are_broken(postgres: Postgres, postgres_url: str) -> None:
    connection = psycopg.connect(postgres_url)
    assert postgres.terminate_connections(postgres_url) == 1
    with pytest.raises(psycopg.OperationalError):
        connection.execute("SELECT 1")
    connection.close()


@pytest.mark.prove
def test_rabbitmq_keeps_durable_messages_over_a_restart_and_loses_them_when_wiped(
    rabbitmq: RabbitMQ, rabbitmq_url: str
) -> None:
    def depth(passive: bool = True) -> int:
        with pika.BlockingConnection(pika.URLParameters(rabbitmq_url)) as connection:
            return int(connection.channel().queue_declare("q", passive=passive, durable=True).method.message_count)

    depth(passive=False)
    with pika.BlockingConnection(pika.URLParameters(rabbitmq_url)) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.basic_publish("", "q", b"body", pika.BasicProperties(delivery_mode=2), mandatory=True)
    rabbitmq.stop()
    rabbitmq.start()
    assert depth() == 1
    rabbitmq.wipe()
    assert "q" not in rabbitmq.ctl("list_queues", "-p", rabbitmq_url.rpartition("/")[2], "name").split()

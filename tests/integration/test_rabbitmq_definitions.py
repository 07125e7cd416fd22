"""The shipped users and queues, imported into a real RabbitMQ: everybody can do their part, and nothing else."""

import json
import os
import subprocess
import urllib.error
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pika
import pytest
from pika.exceptions import ChannelClosedByBroker

from errors import BrokerError, BrokerUnavailable
from rabbitmq.consumer import Consumers, Delivery
from rabbitmq.management import Management, passive_counts, probe, purge
from rabbitmq.publisher import Parcel, Publisher
from rabbitmq.reading import read
from rabbitmq.topology import Queue, choose_type, definitions, topology
from tests.collect import Collected, eventually
from tests.servers import RabbitMQ

RABBITMQ = Path(__file__).parents[2] / "rabbitmq"
PASSWORDS = {"producer": "pröducer & co", "worker": "w\\1%s", "operator": "o'perator\""}
NAMES = ["email", "usage-tracking"]


def entrypoint(tmp_path: Path, template: object, passwords: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    """Run entrypoint.sh as the image would; what it would start says so instead."""
    binary = tmp_path / "bin" / "docker-entrypoint.sh"
    binary.parent.mkdir(exist_ok=True)
    binary.write_text('#!/bin/sh\necho "starting $*"\n')
    binary.chmod(0o755)
    (tmp_path / "definitions.json").write_text(json.dumps(template, indent=2))
    environment = {
        "PATH": f"{binary.parent}:{os.environ['PATH']}",
        "HARELINE_DEFINITIONS": str(tmp_path / "definitions.json"),
        "HARELINE_DEFINITIONS_OUT": str(tmp_path / "out.json"),
        **{f"RABBITMQ_{user.upper()}_PASSWORD": password for user, password in passwords.items()},
    }
    script = ["bash", str(RABBITMQ / "entrypoint.sh"), "rabbitmq-server"]
    return subprocess.run(script, env=environment, capture_output=True, text=True, timeout=30)


@pytest.fixture
def imported(rabbitmq: RabbitMQ, tmp_path: Path) -> Iterator[RabbitMQ]:
    """The server with the users, and with the queues as its version wants them, in virtual host /."""
    rabbitmq.start()
    server = rabbitmq.version[:2]
    template = definitions(NAMES, queue_type=choose_type("auto", server), server=server)  # type: ignore[arg-type]
    run = entrypoint(tmp_path, template, PASSWORDS)
    assert (run.returncode, run.stdout) == (0, "starting rabbitmq-server\n"), run.stderr
    rabbitmq.api("POST", "/definitions", json.loads((tmp_path / "out.json").read_text()))
    yield rabbitmq
    for user in PASSWORDS:
        rabbitmq.api("DELETE", f"/users/{user}")
    for name in NAMES:
        for queue in (name, f"{name}.XQ"):
            rabbitmq.api("DELETE", f"/queues/%2F/{queue}")


def url(server: RabbitMQ, user: str, password: str | None = None) -> str:
    word = quote(password if password is not None else PASSWORDS[user], safe="")
    return f"amqp://{user}:{word}@127.0.0.1:{server.port}/%2F"


def refused(server: RabbitMQ, user: str, method: str, *arguments: object, **options: object) -> bool:
    """Whether RabbitMQ answers this channel method with ACCESS_REFUSED."""
    connection = pika.BlockingConnection(pika.URLParameters(url(server, user)))
    try:
        channel = connection.channel()
        channel.confirm_delivery()
        getattr(channel, method)(*arguments, **options)
    except ChannelClosedByBroker as error:
        if error.reply_code != 403:
            raise
        return True
    finally:
        connection.close()
    return False


def topology_of(server: tuple[int, int]) -> list[Queue]:
    return topology(NAMES, queue_type=choose_type("auto", server), server=server)


def test_the_queues_are_the_topology(imported: RabbitMQ) -> None:
    found = {queue["name"]: queue["arguments"] for queue in imported.api("GET", "/queues/%2F")}
    server = imported.version[0], imported.version[1]
    assert found == {queue.name: queue.arguments for queue in topology_of(server)}


def test_each_user_has_the_password_of_the_environment_and_no_other(imported: RabbitMQ) -> None:
    for user, password in PASSWORDS.items():
        assert probe(url(imported, user)).server == imported.version[:2]
        for wrong in ("", user, "guest", password.upper()):
            with pytest.raises(BrokerUnavailable, match=f"refuses user '{user}'"):
                probe(url(imported, user, wrong))


def test_without_a_password_nobody_can_log_in(rabbitmq: RabbitMQ) -> None:
    rabbitmq.start()
    template = definitions([], queue_type="classic", server=(3, 10))
    rabbitmq.api("POST", "/definitions", {"users": template["users"]})
    try:
        for user in PASSWORDS:
            for guess in ("", user, "guest"):
                with pytest.raises(BrokerUnavailable, match=f"refuses user '{user}'"):
                    probe(url(rabbitmq, user, guess))
    finally:
        for user in PASSWORDS:
            rabbitmq.api("DELETE", f"/users/{user}")


@pytest.mark.parametrize("missing", sorted(PASSWORDS))
def test_the_server_does_not_start_without_every_password(missing: str, tmp_path: Path) -> None:
    template = definitions(NAMES, queue_type="classic", server=(3, 10))
    run = entrypoint(tmp_path, template, {user: word for user, word in PASSWORDS.items() if user != missing})
    assert (run.returncode, run.stdout) == (64, "")
    assert f"RABBITMQ_{missing.upper()}_PASSWORD is not set" in run.stderr


def test_the_entry_script_reads_the_shipped_definitions(tmp_path: Path) -> None:
    shipped = json.loads((RABBITMQ / "definitions.json").read_text())
    assert entrypoint(tmp_path, shipped, PASSWORDS).returncode == 0
    written = json.loads((tmp_path / "out.json").read_text())
    assert all(user.pop("password_hash") for user in written["users"])
    assert all(not user.pop("password_hash") for user in shipped["users"])
    assert written == shipped


def test_the_producer_publishes_and_can_do_nothing_else(imported: RabbitMQ) -> None:
    sent = Collected[tuple[str, int]]()
    publisher = Publisher(url(imported, "producer"), topology=topology_of, on_sent=sent.add)
    publisher.publish([Parcel("email", b"{}", "j", 1, "m", "t", 3, 0)])
    assert publisher.flush(10)
    assert (sent.items, publisher.problems) == ([("j", 1)], {})
    publisher.close()
    assert refused(imported, "producer", "basic_get", "email")
    assert refused(imported, "producer", "queue_purge", "email")
    assert refused(imported, "producer", "queue_declare", "mine", durable=True)
    assert refused(imported, "producer", "queue_delete", "email")
    assert refused(imported, "producer", "basic_publish", "amq.direct", "email", b"")


def test_the_worker_consumes_and_publishes_and_declares_nothing(imported: RabbitMQ) -> None:
    got, sent = Collected[Delivery](), Collected[tuple[str, int]]()
    consumers = Consumers(url(imported, "worker"), topology=topology_of, on_delivery=got)
    publisher = Publisher(url(imported, "worker"), topology=topology_of, on_sent=sent.add)
    consumers.open("email", 1)
    publisher.publish(
        [Parcel("email", b"{}", "j", 1, "m", "t", 3, 0), Parcel("email.XQ", b"{}", "d", 1, "m", "t", 1, 0)]
    )
    got.wait_for(1)[0].ack()
    assert publisher.flush(10)
    assert publisher.stats.sent == 2
    assert {**consumers.problems, **publisher.problems} == {}
    consumers.stop()
    publisher.close()
    assert passive_counts(url(imported, "worker"), ["email", "email.XQ"]) == {"email": (0, 0), "email.XQ": (1, 0)}
    assert refused(imported, "worker", "queue_declare", "mine", durable=True)
    assert refused(imported, "worker", "queue_delete", "email")


def test_the_operator_sees_everything_and_empties_dead_letters_only(imported: RabbitMQ) -> None:
    publisher = Publisher(url(imported, "worker"), topology=topology_of, on_sent=lambda _: None)
    publisher.publish([Parcel(queue, b"{}", "d", 1, "m", "t", 1, 0) for queue in ("email", "email.XQ", "email.XQ")])
    assert publisher.flush(10)
    publisher.close()
    credentials = f"operator:{quote(PASSWORDS['operator'], safe='')}"
    management = Management(imported.management_url.replace("hareline:hareline", credentials))
    eventually(lambda: read(management).queues["email.XQ"].ready == 2, "the statistics are in")
    assert "no such queue" not in read(management).queues
    with pytest.raises(BrokerError, match="'email' cannot be purged: ACCESS_REFUSED"):
        purge(url(imported, "operator"), "email")
    assert purge(url(imported, "operator"), "email.XQ") == 2
    assert purge(url(imported, "operator"), "email.XQ") == 0
    assert refused(imported, "operator", "basic_publish", "", "email", b"")
    assert refused(imported, "operator", "basic_get", "email")
    assert refused(imported, "operator", "queue_delete", "email")
    assert passive_counts(url(imported, "worker"), ["email"]) == {"email": (1, 0)}


@pytest.mark.parametrize("user", ["producer", "worker"])
def test_nobody_publishes_in_the_name_of_another(imported: RabbitMQ, user: str) -> None:
    def publish(name: str) -> None:
        with pika.BlockingConnection(pika.URLParameters(url(imported, user))) as connection:
            channel = connection.channel()
            channel.confirm_delivery()
            channel.basic_publish("", "email", b"{}", pika.BasicProperties(user_id=name), mandatory=True)

    publish(user)
    for other in {"producer", "worker", "operator"} - {user}:
        with pytest.raises(ChannelClosedByBroker) as refused:
            publish(other)
        assert refused.value.reply_code == 406
        assert f"user_id property set to '{other}' but authenticated user was '{user}'" in refused.value.reply_text


def test_a_management_api_that_refuses_or_does_not_answer_is_named_with_the_remedy(rabbitmq: RabbitMQ) -> None:
    rabbitmq.start()
    wrong = rabbitmq.management_url.replace("hareline:hareline", "hareline:wrong")
    with pytest.raises(BrokerUnavailable, match="says 401: check user, password"):
        read(Management(wrong))
    with pytest.raises(BrokerUnavailable, match=r"http://127.0.0.1:1 does not answer .* rabbitmq_management") as caught:
        read(Management("http://me:secret@127.0.0.1:1"))
    assert "secret" not in str(caught.value)
    assert isinstance(caught.value.__cause__, urllib.error.URLError)


def test_a_probe_of_nothing_says_so(rabbitmq: RabbitMQ) -> None:
    with pytest.raises(BrokerUnavailable, match=r"nothing listens at 127\.0\.0\.1:1: start RabbitMQ"):
        probe("amqp://me:secret@127.0.0.1:1/")

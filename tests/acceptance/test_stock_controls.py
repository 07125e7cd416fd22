"""Two ways in which stock Dramatiq loses jobs on RabbitMQ, shown on stock Dramatiq, and their absence here.

Each scenario is one function for both; what differs is who runs it, and the outcome.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from dramatiq.message import Message

from tests.acceptance.rabbit import Rabbit, settled
from tests.acceptance.system import System, Worker

STOCK = "tests.acceptance.stock_app"
ALL = {"configure": ".*", "write": ".*", "read": ".*"}


def test_stock_dramatiq_loses_a_job_whose_retry_cannot_be_published(on_rabbitmq: System, rabbit: Rabbit) -> None:
    system = on_rabbitmq
    with a_worker_that_may_not_publish_any_more(system, rabbit, app=STOCK) as (worker, _):
        rabbit.publish("work", stock("fail_once", str(system.log), "job"))
        worker.wait_line("Unexpected failure in after_process_message")
        system.until(lambda: not any(sum(count) for count in rabbit.counts().values()), because="until it was acked")
    assert system.ran() == ["job"]  # it ran once, failed, and is in no queue: nobody will ever know


def test_here_a_job_whose_retry_cannot_be_published_is_published_later(unhurried: System, rabbit: Rabbit) -> None:
    system = unhurried
    with a_worker_that_may_not_publish_any_more(system, rabbit) as (worker, may_publish):
        system.run("fail_once.send(log, 'job')")
        worker.wait_line("RabbitMQ closed the publishing channel")
        assert system.ran() == ["job"]
        assert system.states() == {"waiting": 1}  # for the message of its retry
        may_publish()
        assert system.finished(1) == {"completed": 1}
        assert system.ran() == ["job", "job"]
        settled(system, rabbit)


def test_stock_dramatiq_acks_another_message_after_a_reconnect_and_loses_it(
    on_rabbitmq: System, rabbit: Rabbit
) -> None:
    system = on_rabbitmq

    def send(name: str) -> None:
        rabbit.publish("work", stock("hold", str(system.log), name, str(system.folder / name)))

    def clear() -> None:
        system.until(lambda: rabbit.steal("work"), because="for the first message, back in the queue")
        rabbit.publish("work", stock("hold", str(system.log), "between", str(system.log)))  # delivery tag 1

    worker = system.worker(app=STOCK)
    a_job_ends_after_a_reconnect_while_another_runs(system, rabbit, send, clear)
    system.until(lambda: rabbit.counts()["work"] == (0, 0), because="until the wrong message was acked")
    assert "end second" not in system.ran()
    worker.kill()
    (system.folder / "second").touch()
    system.worker(app=STOCK)
    send("second-to-none")
    system.until(lambda: "start second-to-none" in system.ran())  # so the new worker consumes
    assert "end second" not in system.ran()


def test_here_an_ack_never_reaches_a_message_of_another_connection(on_rabbitmq: System, rabbit: Rabbit) -> None:
    system = on_rabbitmq

    def send(name: str) -> None:
        system.run(f"hold.send(log, {name!r}, {str(system.folder / name)!r})")

    def clear() -> None:  # it comes back with delivery tag 1, and is found to be running
        system.until(lambda: rabbit.counts()["work"] == (0, 0), because="for the first message, dropped")

    worker = system.worker()
    a_job_ends_after_a_reconnect_while_another_runs(system, rabbit, send, clear)
    system.until(lambda: system.states().get("completed") == 2)
    system.run("record.send(log, 'later')")
    system.until(lambda: system.states().get("completed") == 3)
    system.until(lambda: rabbit.counts()["work"] == (0, 1), because="for the ack of the later one")
    worker.kill()
    system.until(lambda: rabbit.counts()["work"] == (1, 0), because="for the second message, still in RabbitMQ")
    (system.folder / "second").touch()
    system.worker()
    assert system.finished(4) == {"completed": 4}
    assert "end second" in system.ran()
    settled(system, rabbit)


def a_job_ends_after_a_reconnect_while_another_runs(
    system: System, rabbit: Rabbit, send: Callable[[str], None], clear: Callable[[], None]
) -> None:
    """The first job has delivery tag 2 of the first connection; the second, delivery tag 2 of the second one.

    ``clear`` deals with the first job's message, which RabbitMQ delivers again after the reconnect.
    """
    rabbit.wait_for_consumer("work")
    (system.folder / "warm").touch()
    send("warm")
    system.until(lambda: "end warm" in system.ran())
    system.until(lambda: rabbit.counts()["work"] == (0, 0))
    send("first")
    system.until(lambda: "start first" in system.ran())
    assert rabbit.close_connections() >= 1
    clear()
    send("second")
    system.until(lambda: "start second" in system.ran())
    (system.folder / "first").touch()
    system.until(lambda: "end first" in system.ran())


@contextmanager
def a_worker_that_may_not_publish_any_more(
    system: System, rabbit: Rabbit, app: str = "tests.acceptance.app"
) -> Iterator[tuple[Worker, Callable[[], None]]]:
    """It consumes, and had all rights when it started; the function gives them back."""
    user = f"mute-{rabbit.vhost}"
    permissions = f"/permissions/{rabbit.vhost}/{user}"
    rabbit.server.api("PUT", f"/users/{user}", {"password": "secret", "tags": ""})
    rabbit.server.api("PUT", permissions, ALL)
    url = f"amqp://{user}:secret@127.0.0.1:{rabbit.server.port}/{rabbit.vhost}"
    try:
        worker = system.worker(app=app, env={"BROKER_URL": url})
        rabbit.wait_for_consumer("work")
        rabbit.server.api("PUT", permissions, ALL | {"write": "^$"})
        yield worker, lambda: rabbit.server.api("PUT", permissions, ALL)
    finally:
        rabbit.server.api("DELETE", f"/users/{user}")


def stock(actor: str, *arguments: str) -> bytes:
    return Message(queue_name="work", actor_name=actor, args=arguments, kwargs={}, options={}).encode()

"""RabbitMQ is stopped, killed, wiped, blocked and cut off under load: nothing is lost, and no send() waits for it."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from rabbitmq.topology import definitions
from tests.acceptance.nursery import nursery
from tests.acceptance.rabbit import Rabbit, settled
from tests.acceptance.system import System
from tests.servers import RabbitMQ

SEND = "lambda line: record.send(log, line)"


@pytest.mark.parametrize("down", [RabbitMQ.stop, RabbitMQ.kill], ids=["stopped", "killed"])
def test_rabbitmq_may_go_away_under_load(unhurried: System, rabbit: Rabbit, down: Callable[[RabbitMQ], None]) -> None:
    system, server = unhurried, rabbit.server
    system.worker(processes=2)
    with system.producer(SEND) as producer:
        system.until(lambda: len(system.ran()) > 50, because="before the outage")
        down(server)
        before = jobs(system)
        system.until(lambda: jobs(system) > before + 100, because="for jobs sent while RabbitMQ was away")
        server.start()
        ran = len(system.ran())
        system.until(lambda: len(system.ran()) > ran + 50, because="after the outage")
        produced = producer.stop()
    assert not produced.refused
    assert produced.slowest_s < 1.0
    assert system.finished(len(produced.sent)) == {"completed": len(produced.sent)}
    assert Counter(system.ran()) == Counter(produced.sent)
    settled(system, rabbit)


def test_what_a_wiped_rabbitmq_lost_is_sent_again_by_rebuild(unhurried: System, rabbit: Rabbit) -> None:
    system = unhurried
    system.run("for n in range(300): record.send(log, n)\nbroker.road.flush(10)")
    confirmed(system)
    worker = system.worker(args=("-Q", "other"))  # it keeps the duties going, and leaves the queue alone
    rabbit.server.wipe()
    system.run("record_other.send(log, 'after')")
    system.until(lambda: "after" in system.ran(), because="for the workers to be back")
    worker.stop()
    system.worker(processes=2)
    rebuilt = nursery().run(["-m", "cli", "rebuild"], env=system.env, cwd=system.folder)
    assert rebuilt.returncode == 0, rebuilt.stderr
    assert rebuilt.stdout == "300 waiting jobs are sent again\n"
    assert system.finished(301) == {"completed": 301}
    assert Counter(system.ran()) == Counter([*map(str, range(300)), "after"])
    settled(system, rabbit)


def test_during_a_memory_alarm_sends_return_at_once_and_running_jobs_finish(unhurried: System, rabbit: Rabbit) -> None:
    system, release = unhurried, unhurried.folder / "release"
    system.worker()
    system.run(f"hold.send(log, 'held', {str(release)!r})")
    system.until(lambda: system.ran() == ["start held"])
    with alarm(rabbit.server), system.producer(SEND) as producer:
        system.until(lambda: jobs(system) > 100, because="for jobs sent during the alarm")
        release.touch()
        system.until(lambda: system.states().get("completed"), because="for the end of the running job")
        assert "end held" in system.ran()
        produced = producer.stop()
    assert not produced.refused
    assert produced.slowest_s < 1.0
    assert system.finished(len(produced.sent) + 1) == {"completed": len(produced.sent) + 1}
    assert Counter(system.ran()) == Counter([*produced.sent, "start held", "end held"])
    settled(system, rabbit)


def test_a_job_longer_than_rabbitmqs_consumer_timeout_runs_once(unhurried: System, rabbit: Rabbit) -> None:
    system, release = unhurried, unhurried.folder / "release"
    with impatient(rabbit.server):
        worker = system.worker()
        system.run(f"hold.send(log, 'long', {str(release)!r})")
        cancels = rabbit.server.version >= (4, 3)  # the consumer, where others close the channel
        worker.wait_line(f"RabbitMQ {'cancelled the consumer' if cancels else 'closed the channel'} of queue work")
        system.run("for n in range(20): record.send(log, n)")  # the queue goes on meanwhile
        system.until(lambda: len(system.ran()) == 21, because="beside the long job")
        release.touch()
        assert system.finished(21) == {"completed": 21}
    assert Counter(system.ran()) == Counter(["start long", "end long", *map(str, range(20))])
    assert system.sql("SELECT count(*) FROM attempts") == [(21,)]
    settled(system, rabbit)


def test_connections_closed_again_and_again_cost_nothing(unhurried: System, rabbit: Rabbit) -> None:
    system = unhurried
    system.worker(processes=2)
    with system.producer(SEND) as producer:
        for _ in range(5):
            ran = len(system.ran())
            system.until(lambda ran=ran: len(system.ran()) > ran + 30)  # type: ignore[misc]
            rabbit.close_connections()
        produced = producer.stop()
    assert produced.slowest_s < 1.0
    assert system.finished(len(produced.sent)) == {"completed": len(produced.sent)}
    assert Counter(system.ran()) == Counter(produced.sent)
    settled(system, rabbit)


def test_a_work_queue_deleted_while_sending_is_declared_again_and_its_messages_are_sent_again(
    unhurried: System, rabbit: Rabbit
) -> None:
    system = unhurried
    system.env |= {"HARELINE_SWEEP_S": "1", "HARELINE_ORPHAN_S": "3"}
    with system.producer(SEND) as producer:
        system.until(lambda: jobs(system) > 50)
        rabbit.delete("work")  # nobody consumes it: publishes are returned until the publisher declares it again
        system.until(lambda: "work" in rabbit.counts(), because="until the producer has declared the queue")
        system.worker(processes=2)
        system.until(lambda: len(system.ran()) > 50)
        rabbit.delete("work")  # under its consumers
        ran = len(system.ran())
        system.until(lambda: len(system.ran()) > ran + 50, because="after the queue was deleted")
        produced = producer.stop()
    assert produced.slowest_s < 1.0
    assert system.finished(len(produced.sent)) == {"completed": len(produced.sent)}
    assert Counter(system.ran()) == Counter(produced.sent)
    settled(system, rabbit)


def test_messages_purged_behind_the_ledgers_back_are_sent_again_by_the_sweep(unhurried: System, rabbit: Rabbit) -> None:
    system = unhurried
    system.env |= {"HARELINE_SWEEP_S": "0.5", "HARELINE_ORPHAN_S": "1"}
    system.run("for n in range(200): record.send(log, n)\nbroker.road.flush(10)")
    confirmed(system)
    assert rabbit.purge("work") == 200
    system.worker()
    assert system.finished(200) == {"completed": 200}
    assert Counter(system.ran()) == Counter(map(str, range(200)))
    assert system.sql("SELECT count(*) FROM journal WHERE event = 'resent'") == [(200,)]
    settled(system, rabbit)


def test_a_queue_that_exists_with_other_arguments_is_named_and_used_as_it_is(unhurried: System, rabbit: Rabbit) -> None:
    system = unhurried
    with rabbit.channel() as channel:  # as stock Dramatiq declares it
        arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "work.XQ"}
        channel.queue_declare("work", durable=True, arguments=arguments)
    worker = system.worker()
    complaint = worker.wait_line("queue 'work' cannot be declared with")
    assert "PRECONDITION_FAILED - inequivalent arg" in complaint
    assert "It is used as it is" in complaint
    assert "rabbitmqctl delete_queue work --if-empty" in complaint
    system.run("for n in range(50): record.send(log, n)\nfail.send(log, 'dead')")
    assert system.finished(51) == {"completed": 50, "failed": 1}
    assert Counter(system.ran()) == Counter([*map(str, range(50)), "dead", "dead", "dead"])
    settled(system, rabbit)


def test_users_with_no_more_rights_than_they_need_run_the_system(unhurried: System, rabbit: Rabbit) -> None:
    system = unhurried
    version = (rabbit.server.version[0], rabbit.server.version[1])
    asked = definitions(["work", "other", "narrow"], queue_type="classic", server=version)
    system.env["HARELINE_QUEUE_TYPE"] = "classic"
    rabbit.server.api("POST", f"/definitions/{rabbit.vhost}", {"queues": _without_vhost(asked["queues"])})
    urls = {}
    for permission in asked["permissions"]:
        user = f"{permission['user']}-{rabbit.vhost}"
        rabbit.server.api("PUT", f"/users/{user}", {"password": "secret", "tags": ""})
        rights = {right: permission[right] for right in ("configure", "write", "read")}
        rabbit.server.api("PUT", f"/permissions/{rabbit.vhost}/{user}", rights)
        urls[permission["user"]] = f"amqp://{user}:secret@127.0.0.1:{rabbit.server.port}/{rabbit.vhost}"
    try:
        env = {"BROKER_URL": urls["worker"], "HARELINE_RECONCILE_S": "0.5", "HARELINE_SWEEP_S": "0.5"}
        system.worker(env=env)
        system.run(
            "for n in range(50): record.send(log, n)\nfail.send(log, 'dead')", env={"BROKER_URL": urls["producer"]}
        )
        assert system.finished(51) == {"completed": 50, "failed": 1}
        rabbit.purge("work.XQ")  # the worker fills it again: it may purge it itself
        settled(system, rabbit)
    finally:
        for user in urls:
            rabbit.server.api("DELETE", f"/users/{user}-{rabbit.vhost}")


def _without_vhost(queues: list[dict[str, object]]) -> list[dict[str, object]]:
    return [{name: value for name, value in queue.items() if name != "vhost"} for queue in queues]


def jobs(system: System) -> int:
    [(count,)] = system.sql("SELECT count(*) FROM jobs")
    assert isinstance(count, int)
    return count


def confirmed(system: System) -> None:
    """Wait until every job's message is in RabbitMQ, and marked so."""
    system.until(lambda: system.sql("SELECT count(*) FROM tickets") == [(0,)], because="for the marks")


@contextmanager
def alarm(server: RabbitMQ) -> Iterator[None]:
    server.ctl("set_vm_memory_high_watermark", "0.0000001")
    try:
        deadline = time.monotonic() + 10
        while not server.api("GET", "/nodes")[0]["mem_alarm"]:
            assert time.monotonic() < deadline, "no alarm"
        yield
    finally:
        server.ctl("set_vm_memory_high_watermark", "absolute", "1GB")


@contextmanager
def impatient(server: RabbitMQ) -> Iterator[None]:
    """A consumer timeout of 2 s, looked after twice a second."""
    before = server.ctl("eval", "[application:get_env(rabbit, K) || K <- [consumer_timeout, channel_tick_interval]].")
    assert before.strip() == "[{ok,1800000},{ok,60000}]"
    _set(server, consumer_timeout=2_000, channel_tick_interval=500)
    try:
        yield
    finally:
        _set(server, consumer_timeout=1_800_000, channel_tick_interval=60_000)


def _set(server: RabbitMQ, **values: int) -> None:
    calls = [f"ok = application:set_env(rabbit, {name}, {value})" for name, value in values.items()]
    server.ctl("eval", f"{', '.join(calls)}.")

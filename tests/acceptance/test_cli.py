"""The command line as people and scripts use it: real processes, their output and their exit codes."""

import json
import os
import pty
import select
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from pika import BlockingConnection, URLParameters

from cli.reference import page
from ledger import open_ledger
from ledger.queries import Queries
from ledger.records import Finish, NewJob
from ledger.states import Outcome, Reason, State
from ledger.views import JobView, WorkerView
from tests.acceptance.nursery import nursery
from tests.program import ROOT, Program, environment, hareline
from tests.servers import Postgres, RabbitMQ
from tests.servers.process import free_port

NASTY = "\x1b[2J\x1b]0;owned\x07 [red]not markup[/red] \u202eevil\n\tnext"


class Place:
    """A folder with an embedded ledger of its own, and commands run in it."""

    def __init__(self, folder: Path, url: str, **env: str) -> None:
        self.folder = folder
        self.url = url
        self.env = environment(DATABASE_URL=url, **env)

    def run(self, *arguments: str, code: int = 0, env: Mapping[str, str] | None = None) -> str:
        """Run one command, piped; its stdout, or its stderr when it is to fail."""
        done = nursery().run(["-m", "cli", *arguments], env={**self.env, **(env or {})}, cwd=self.folder)
        assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done.stderr if code else done.stdout

    def json(self, *arguments: str) -> Any:
        return json.loads(self.run(*arguments, "--json"))

    def program(self, *arguments: str, **env: str) -> Program:
        return Program(hareline(*arguments), self.folder, {**self.env, **env})

    def failed(self, count: int, *, queue: str = "billing", error: str = "no luck") -> list[str]:
        """Put dead letters into the ledger, by running them as a worker would; their ids."""
        session = open_ledger(self.url, road="embedded").session("test")
        worker = session.join(host="here", pid=1, queues=[queue], threads=1, version="0")
        body = json.dumps({"args": [NASTY], "kwargs": {}, "options": {}, "actor_name": "bill"}).encode()
        ids = [f"00000000-0000-7000-8000-{number:012x}" for number in range(count)]
        session.enqueue([NewJob(id, id, queue, "bill", 3, body) for id in ids])
        claims = session.take(worker, {queue: count})
        said = ("ValueError", error, f"File x\n{error}")
        ends = [Finish(x.id, x.epoch, Outcome.FAILED, Reason.RETRIES_EXHAUSTED, *said) for x in claims]
        session.finish(worker, ends)
        session.leave(worker)
        session.close()
        return ids

    def workers(self, *states: str) -> list[WorkerView]:
        queries = Queries(self.url)
        found = [worker for worker in queries.workers(everyone=True) if worker.state in states]
        queries.close()
        return found


@pytest.fixture
def place(tmp_path: Path, sqlite_url: str) -> Place:
    return Place(tmp_path, sqlite_url)


def until(what: Callable[[], Any], timeout_s: float = 60.0) -> Any:
    """Wait until ``what()`` is true: the ledger has no signal for a test, so it is asked often."""
    deadline = time.monotonic() + timeout_s
    while not (value := what()):
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {value!r}"
        time.sleep(0.02)
    return value


# -- a job's life, from the command line


def test_a_job_is_enqueued_shown_cancelled_retried_and_removed(place: Place) -> None:
    made = place.json("jobs", "enqueue", "calculate_costs", "--args", '["r1"]', "--delay", "2h", "--priority", "1")
    assert made["state"] == "delayed"
    shown = place.json("jobs", "show", made["message_id"])
    assert shown["message"]["args"] == ["r1"]
    assert shown["priority"] == 1
    due = datetime.fromisoformat(shown["run_at"]) - datetime.fromisoformat(shown["created_at"])
    assert due.total_seconds() == 7200
    assert "only a finished job" in place.run("jobs", "rm", made["id"], code=4)
    assert "is cancelled" in place.run("jobs", "cancel", made["id"][:20])
    assert "finished" in place.run("jobs", "cancel", made["id"], code=4)
    assert "is waiting" in place.run("jobs", "retry", made["id"])
    text = place.run("jobs", "show", made["id"])
    assert [word for word in ("enqueued", "cancelled", "retried", "cli:") if word not in text] == []
    place.run("jobs", "cancel", made["id"])
    assert place.json("jobs", "rm", made["id"]) == [made["id"]]
    assert "no job" in place.run("jobs", "show", made["id"], code=3)


def test_jobs_are_listed_by_queue_state_and_actor(place: Place) -> None:
    place.failed(3)
    assert len(place.json("jobs", "ls", "--queue", "billing", "--state", "failed", "--actor", "bill")) == 3
    assert len(place.json("jobs", "ls", "--limit", "2")) == 2
    assert place.json("jobs", "ls", "--state", "waiting") == []
    heading, *rows = place.run("jobs", "ls").splitlines()
    assert heading.split("\t")[:4] == ["id", "queue", "actor", "state"]
    assert [row.split("\t")[3] for row in rows] == ["failed"] * 3


# -- what is typed wrong


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("jobs", "enqueue", "calculate_cost"), 3, "did you mean calculate_costs?"),
        (("jobs", "enqueue", "calculate_costs", "--args", "r1"), 2, "--args 'r1' is not JSON"),
        (("jobs", "enqueue", "calculate_costs", "--kwargs", "[]"), 2, "of the wrong kind"),
        (("jobs", "enqueue", "calculate_costs", "--delay", "soon"), 2, "'soon' is not a duration"),
        (("jobs", "enqueue", "calculate_costs", "--queue", "usage"), 3, "did you mean usage-tracking?"),
        (("jobs", "show", "nope"), 3, "no job 'nope'"),
        (("queues", "pause", "usage-traking"), 3, "did you mean usage-tracking?"),
        (("worker", "-Q", "usage-traking"), 2, "did you mean usage-tracking?"),
        (("dead", "retry"), 2, "say which"),
        (("dead", "discard", "--all", "--queue", "x"), 2, "say which"),
        (("jobs", "ls", "--state", "odd"), 2, "'odd'"),
    ],
)
def test_wrong_input_ends_with_a_line_that_names_it_and_a_stable_code(
    place: Place, arguments: tuple[str, ...], code: int, words: str
) -> None:
    assert words in place.run(*arguments, code=code)


def test_wrong_settings_and_an_absent_database_are_told_apart(place: Place) -> None:
    assert "HARELINE_KEEP" in place.run("jobs", "ls", env={"HARELINE_KEEP": "1"}, code=2)
    away = {"DATABASE_URL": f"postgresql://nobody:secret@127.0.0.1:{free_port()}/x"}
    text = place.run("jobs", "ls", env=away, code=5)
    assert "127.0.0.1" in text
    assert "secret" not in text


def test_config_tells_where_a_value_came_from_and_keeps_secrets(place: Place) -> None:
    env = {"POSTHOG_API_KEY": "phc_secret", "DATABASE_URL": "postgresql://me:hush@db/x"}
    rows = {row["name"]: row for row in json.loads(place.run("config", "--json", env=env))}
    assert rows["database_url"]["origin"] == "environment"
    assert rows["keep_failed"]["origin"] == "default"
    text = place.run("config", env=env)
    assert "hush" not in text
    assert "phc_secret" not in text


# -- what comes from outside does not act on the terminal


def test_payloads_and_errors_are_shown_harmless(place: Place) -> None:
    [id] = place.failed(1, error=NASTY)
    for text in (
        place.run("jobs", "show", id, "--traceback"),
        place.run("dead", "ls"),
        on_a_terminal(place, "jobs", "show", id, "--traceback")[1],
        on_a_terminal(place, "dead", "ls")[1],
    ):
        for character in ("\x1b[2J", "\x1b]0;", "\x07", "\u202e"):
            assert character not in text
        assert "[red]not" in text.replace("\r\n", "").replace("\n", "")


def on_a_terminal(place: Place, *arguments: str, answer: str = "") -> tuple[int, str]:
    """Run a command on a terminal; type the answer once it asks.  Its exit code and what it showed."""
    parent, child = pty.openpty()
    env = {**place.env, "TERM": "xterm-256color", "COLUMNS": "200"}
    process = subprocess.Popen(
        hareline(*arguments), cwd=place.folder, env=env, stdin=child, stdout=child, stderr=child, close_fds=True
    )
    os.close(child)
    shown = ""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and select.select([parent], [], [], 60)[0]:
        try:
            shown += os.read(parent, 65536).decode(errors="replace")
        except OSError:  # Linux says so when the last one has closed the other end
            break
        if answer and "[y/N]" in shown:
            os.write(parent, f"{answer}\n".encode())
            answer = ""
    os.close(parent)
    return process.wait(10), shown


def test_many_dead_letters_are_retried_or_discarded_after_a_question(place: Place) -> None:
    place.failed(3)
    code, shown = on_a_terminal(place, "dead", "retry", "--queue", "billing", answer="n")
    assert (code, "Retry 3 dead letters?" in shown) == (1, True)
    assert "add --yes" in place.run("dead", "retry", "--all", code=2)
    code, shown = on_a_terminal(place, "dead", "retry", "--queue", "billing", answer="y")
    assert (code, "3 dead letters were sent round again" in shown) == (0, True)
    assert place.run("dead", "discard", "--all", "--yes") == "0 dead letters were removed\n"


def test_dead_letters_can_be_named(place: Place) -> None:
    first, second = place.failed(2)
    assert place.json("dead", "retry", first) == [first]
    assert place.json("dead", "discard", second) == [second]
    assert "waiting" in place.run("dead", "retry", first, code=4)
    assert place.json("dead", "ls") == []


# -- queues


def test_queues_are_listed_paused_and_resumed(place: Place) -> None:
    place.json("jobs", "enqueue", "calculate_costs", "--args", '["r1"]')
    place.run("queues", "pause", "usage-tracking", "maintenance")
    rows = {row["name"]: row for row in place.json("queues", "ls")}
    assert rows["usage-tracking"]["paused_by"].startswith("cli:")
    assert (rows["usage-tracking"]["waiting"], rows["usage-tracking"]["total"]) == (1, 1)
    assert rows["maintenance"]["paused"]
    assert "hareline queues resume" in place.run("doctor")
    place.run("queues", "resume", "usage-tracking")
    assert not {row["name"]: row for row in place.json("queues", "ls")}["usage-tracking"]["paused"]


# -- migrate, doctor


def test_migrate_says_from_where_to_where(place: Place, postgres: Postgres) -> None:
    url = postgres.create_database()
    assert "hareline migrate" in place.run("worker", env={"DATABASE_URL": url}, code=5)
    assert sum("✗ schema" in line for line in checked(place, 1, DATABASE_URL=url)) == 2
    first = json.loads(place.run("migrate", "--json", env={"DATABASE_URL": url}))
    assert [(row["tables"], row["from"]) for row in first] == [("ledger", None), ("actors", None)]
    assert "as it was" in place.run("migrate", env={"DATABASE_URL": url})
    fresh = {"DATABASE_URL": "sqlite:///deep/down/new.db"}
    assert "none -> " in place.run("migrate", env=fresh)
    assert (place.folder / "deep/down/new.db").exists()
    postgres.drop_database(url)


def checked(place: Place, code: int, **env: str) -> list[str]:
    """The lines of ``hareline doctor``, which is to end with this code."""
    done = nursery().run(["-m", "cli", "doctor"], env={**place.env, **env}, cwd=place.folder)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout.splitlines()


def test_doctor_is_content_with_a_laptop(place: Place) -> None:
    lines = checked(place, 0)
    assert [line.partition(":")[0] for line in lines] == [
        "✓ settings",
        "✓ database",
        "✓ schema of the ledger",
        "✓ schema of the actors",
        "✓ clock",
        "! workers",
        "✓ doorbell",
    ]


def test_doctor_names_what_must_be_mended(place: Place) -> None:
    port = free_port()
    away = {"DATABASE_URL": f"postgresql://me@127.0.0.1:{port}/x", "BROKER_URL": f"amqp://me:x@127.0.0.1:{port}/"}
    lines = checked(place, 1, **away)
    assert [line[0] for line in lines] == ["✓", "✗", "✗"]
    assert f"nothing listens at 127.0.0.1:{port}" in lines[2]
    assert "expected amqp://USER:PASSWORD@HOST" in checked(place, 1, BROKER_URL="amqp://me@localhost/")[0]
    (place.folder / "hareline.toml").write_text("queue_typ = 1")
    assert "the nearest is queue_type" in checked(place, 1)[0]


def test_doctor_compares_rabbitmq_with_the_topology_and_the_ledger(
    place: Place, rabbitmq: RabbitMQ, rabbitmq_url: str
) -> None:
    lines: list[str] = []

    def queues() -> list[str]:
        lines[:] = checked(place, 1 if wrong else 0, **road)
        return [line for line in lines if line[2:].startswith("queue")]

    road = {"BROKER_URL": rabbitmq_url, "HARELINE_RABBITMQ_MANAGEMENT_URL": rabbitmq.management_url}

    wrong = False
    [missing] = queues()
    assert missing.startswith("! queues: ")
    assert "usage-tracking, usage-tracking.XQ" in missing
    place.run("jobs", "enqueue", "calculate_costs", "--args", '["r1"]', env={"BROKER_URL": rabbitmq_url})
    place.run("jobs", "enqueue", "cleanup_audit_log", env={"BROKER_URL": rabbitmq_url})
    assert "usage-tracking," not in queues()[-1]
    assert "✓ management: its API answers; no alarms" in lines
    assert lines[-1] == "✓ messages: what waits in the ledger is in RabbitMQ"
    with BlockingConnection(URLParameters(rabbitmq_url)) as connection:
        channel = connection.channel()
        assert channel.queue_declare("usage-tracking", passive=True).method.message_count == 1
        channel.queue_delete("usage-tracking")
        channel.queue_declare("usage-tracking", durable=True, arguments={"x-max-length": 5})
    wrong = True
    assert any(line.startswith("✗ queue usage-tracking: it is not as the topology has it") for line in queues())
    assert "1 jobs waiting, and RabbitMQ has 0 messages: 1 are missing" in lines[-1]


def test_doctor_tells_a_user_who_may_do_nothing_so(place: Place, rabbitmq: RabbitMQ, rabbitmq_url: str) -> None:
    vhost = rabbitmq_url.rpartition("/")[2]
    rabbitmq.api("PUT", "/users/reader", {"password": "reader", "tags": ""})
    nothing = {"configure": "^$", "write": "^$", "read": "^$"}
    rabbitmq.api("PUT", f"/permissions/{vhost}/reader", nothing)
    url = f"amqp://reader:reader@127.0.0.1:{rabbitmq.port}/{vhost}"
    assert any(
        line.startswith("✗ permissions: this user may not publish") for line in checked(place, 1, BROKER_URL=url)
    )
    rabbitmq.api("DELETE", "/users/reader")


def test_rebuild_sends_again_what_rabbitmq_lost(place: Place, rabbitmq_url: str) -> None:
    road = {"BROKER_URL": rabbitmq_url}
    made = json.loads(place.run("jobs", "enqueue", "calculate_costs", "--args", '["r1"]', "--json", env=road))
    before = json.loads(place.run("jobs", "show", made["id"], "--json", env=road))["ticket"]
    with BlockingConnection(URLParameters(rabbitmq_url)) as connection:
        connection.channel().queue_purge("usage-tracking")
    assert json.loads(place.run("rebuild", "--json", env=road)) == {"jobs": 1}
    after = json.loads(place.run("jobs", "show", made["id"], "--json", env=road))["ticket"]
    assert after == before + 1


# -- worker


def test_a_worker_that_dies_is_started_again_and_the_others_go_on(place: Place) -> None:
    with place.program("worker", "-p", "2") as program:
        program.wait("worker.ready", count=2)
        victim, survivor = place.workers("running")
        os.kill(victim.pid, signal.SIGKILL)
        program.wait("worker.died")
        program.wait("worker.ready", count=3)
        assert survivor.id in {worker.id for worker in place.workers("running")}
        made = place.json("jobs", "enqueue", "cleanup_audit_log", "--args", "[0]")
        until(lambda: place_job(place, made["id"]).state is State.COMPLETED)
        assert program.stop() == 0
    assert survivor.id in {worker.id for worker in place.workers("stopped")}


def place_job(place: Place, id: str) -> JobView:
    queries = Queries(place.url)
    job = queries.job(id)
    queries.close()
    assert job is not None
    return job


def test_a_hangup_restarts_the_workers_one_by_one(place: Place) -> None:
    with place.program("worker", "-p", "2", "-Q", "maintenance") as program:
        program.wait("worker.ready", count=2)
        old = {worker.pid for worker in place.workers("running")}
        program.send(signal.SIGHUP)
        program.wait("worker.ready", count=4)
        new = place.workers("running")
        assert program.stop(signal.SIGINT) == 0
    assert len(new) == 2
    assert not old & {worker.pid for worker in new}
    assert {queue for worker in new for queue in worker.queues} == {"maintenance"}
    steps = [name for line in program.lines for name in ("worker.restarting", "worker.ready") if name in line]
    assert steps[2:6] == ["worker.restarting", "worker.ready"] * 2


def test_workers_end_in_good_order_when_their_supervisor_is_killed(place: Place) -> None:
    with place.program("worker", "-p", "1") as program:
        program.wait("worker.ready")
        [worker] = place.workers("running")
        program.stop(signal.SIGKILL)
        until(lambda: place.workers("stopped"))
    assert [stopped.id for stopped in place.workers("stopped")] == [worker.id]


# -- dev


def test_dev_runs_both_reloads_them_and_ends_with_one_ctrl_c(place: Place) -> None:
    with place.program("dev") as program:
        program.wait("worker    │", "worker.ready")
        program.wait("scheduler │", "scheduler.ready")
        os.utime(ROOT / "cli" / "__main__.py")
        program.wait("dev       │", "changed: __main__.py")
        program.wait("worker.ready", count=2)
        program.wait("scheduler.ready", count=2)
        assert program.stop(signal.SIGINT) == 0
        program.wait("dev       │", "stopped")
    assert not place.workers("running", "stopping", "dead")


# -- documentation


def test_the_reference_page_is_what_the_commands_say() -> None:
    written = (ROOT / "docs/reference/cli.md").read_text()
    assert written == page(), "run `python -m cli.reference > docs/reference/cli.md`"

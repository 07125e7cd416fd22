"""What is sensitive is nowhere in clear, and keys may be rotated while jobs run."""

import base64
from contextlib import suppress
from pathlib import Path

import pytest

from control.jobs import retry
from control.keys import rotate
from control.transaction import Control
from ledger.sealing import KeyRing
from ledger.tables import metadata
from settings import keys_of
from tests.acceptance.evidence import ran
from tests.acceptance.rabbit import Rabbit
from tests.acceptance.system import System

APP = "tests.acceptance.secretive"
MARKER = "xyzzy-4111-plugh"
OLD, NEW = (
    f"{id}:{base64.b64encode(bytes([number]) * 32).decode()}" for number, id in ((1, "2026-05"), (2, "2026-11"))
)


def everywhere(system: System) -> dict[str, bytes]:
    """Every column of every table, and what else a system leaves on the disk."""
    found = {}
    for table in metadata.tables.values():
        rows = system.sql(f'SELECT * FROM "{table.name}"')
        found[table.name] = repr([[bytes(x) if isinstance(x, memoryview) else x for x in row] for row in rows]).encode()
    found |= below(system.folder)
    for number, worker in enumerate(system.workers):
        found[f"log of worker {number}"] = "\n".join(worker.lines).encode()
    return found


def in_clear(found: dict[str, bytes]) -> list[str]:
    """Where the marker is: as it is, as upper case, or in base64 at any of its offsets."""
    shapes = [MARKER.encode(), MARKER.upper().encode(), MARKER.encode().hex().encode()]
    shapes += [base64.b64encode(b"-" * n + MARKER.encode())[4:-4] for n in range(3)]
    return [where for where, what in found.items() if any(shape in what for shape in shapes)]


def below(folder: Path) -> dict[str, bytes]:
    found = {}
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):
            if path.is_file():
                found[str(path)] = path.read_bytes()
    return found


def test_a_secret_is_nowhere_in_clear(somewhere: System, request: pytest.FixtureRequest) -> None:
    somewhere.env |= {"HARELINE_KEYS": OLD, "HARELINE_LOG_LEVEL": "DEBUG"}
    rabbit = request.getfixturevalue("rabbitmq") if somewhere.broker_url else None
    sender = somewhere.shell(APP)
    sender.run(f"m = {MARKER!r}")
    sender.run("for _ in range(5): whisper.send(log, m)")
    sender.run("whisper.send_with_options(args=(log, m), kwargs={'fails': True}, on_failure='mourn')")
    sender.run("charge.send(log, 'ada', {'holder': 'Ada', 'number': m}, 1, 2)")
    sender.run("charge.send(log, 'bob', Card(holder='Bob', number=m), Secret(3))")
    sender.run("keep.send(log, m)")
    sender.run("(whisper.message(log, m) | greet.message(log)).run()")
    if rabbit is not None:
        carried = Rabbit(rabbit, somewhere.broker_url or "")
        somewhere.until(lambda: carried.ready()["work"] == 10)
        on_disk = below(rabbit.data)
        assert in_clear(on_disk) == []
        assert any(b"hareline-sealed:2026-05:" in what for what in on_disk.values()), "the messages are there"
    somewhere.worker(app=APP)
    sender.run("sent = whisper.send(log, m); assert sent.get_result(block=True, timeout=30_000) == m.upper()")
    somewhere.finished(13)
    assert ran(somewhere) == {
        f"whispered {len(MARKER)}": 7,
        f"greeted {len(MARKER)}": 1,
        f"ada Card(holder='Ada', number=Secret(…)) {len(MARKER)} 3": 1,
        f"bob Card(holder='Bob', number=Secret(…)) {len(MARKER)} 3": 1,
        "kept True": 1,
    }
    assert somewhere.sql("SELECT actor, reason FROM jobs WHERE state = 'failed'") == [("whisper", "retries_exhausted")]
    found = everywhere(somewhere)
    assert in_clear(found) == [], [line for line in somewhere.workers[0].lines if MARKER.lower() in line.lower()]
    assert b"Received arguments that are encrypted" in found["log of worker 0"], "it logs what might be them"
    assert b"It is RuntimeError; its text is encrypted" in found["log of worker 0"]
    [(text, where)] = somewhere.sql("SELECT error_message, traceback FROM attempts WHERE outcome = 'failed'")
    assert text.startswith("hareline-sealed:2026-05:")
    assert "in whisper" in where
    if somewhere.database_url.startswith("postgresql:"):
        somewhere.sql("CHECKPOINT")
        assert in_clear(below(request.getfixturevalue("postgres").data)) == []
    if rabbit is not None:
        letters = somewhere.until(lambda: carried.letters("work.XQ"))
        assert isinstance(letters, list)
        [letter] = letters
        assert letter.headers["hareline-error"] == "RuntimeError: <encrypted: key 2026-05>"
        assert in_clear({"letter": letter.body, "on the disk": b"".join(below(rabbit.data).values())}) == []


def test_without_the_key_a_job_is_a_dead_letter_that_names_it_and_with_it_a_retry_runs(somewhere: System) -> None:
    somewhere.env["HARELINE_KEYS"] = OLD
    sender = somewhere.shell(APP)
    sender.run(f"whisper.send(log, {MARKER!r})")
    stranger = somewhere.worker(app=APP, env={"HARELINE_KEYS": NEW})
    assert somewhere.finished(1) == {"failed": 1}
    assert somewhere.ran() == []
    [(job, reason, text)] = somewhere.sql(
        "SELECT CAST(j.id AS text), j.reason, a.error_message FROM jobs j JOIN attempts a ON a.job_id = j.id"
    )
    assert reason == "undecipherable"
    assert text == (
        "it is encrypted under the key '2026-05', which is not in HARELINE_KEYS here (2026-11); add the key, then "
        "retry the job"
    )
    stranger.stop()
    control = Control(somewhere.database_url, "rabbitmq" if somewhere.broker_url else "embedded")
    retry(control, job, by="test")
    control.close()
    somewhere.worker(app=APP, env={"HARELINE_KEYS": f"{NEW},{OLD}"})
    assert somewhere.finished(1) == {"completed": 1}
    assert ran(somewhere) == {f"whispered {len(MARKER)}": 1}


def test_keys_are_rotated_beside_running_workers_and_the_old_one_is_dropped(somewhere: System) -> None:
    somewhere.env["HARELINE_KEYS"] = OLD
    sender = somewhere.shell(APP)
    sender.run(f"for n in range(150): keep.send(log, {MARKER!r})")
    held = (
        "broker.enqueue_many([greet.message(log, 'x')] + [whisper.message(log, 'later') for n in range(50)], delay=%d)"
    )
    sender.run(held % 3_600_000)
    both = {"HARELINE_KEYS": f"{NEW},{OLD}"}
    somewhere.worker(app=APP, env=both)
    somewhere.until(lambda: len(somewhere.ran()) > 10)
    ring, control = KeyRing(keys_of(both["HARELINE_KEYS"])), Control(somewhere.database_url, "embedded")
    assert rotate(control, ring, by="test", batch=10).left.total() == 0
    somewhere.until(lambda: len(somewhere.ran()) == 150)
    rotate(control, ring, by="test")
    control.close()
    found = somewhere.queries.keys()
    assert {key for rows in found.values() for key in rows} == {"2026-11"}
    assert found["payloads"]["2026-11"] == 200
    somewhere.workers[0].stop()
    somewhere.sql("UPDATE tickets SET due_at = (SELECT min(created_at) FROM jobs)")
    somewhere.worker(app=APP, env={"HARELINE_KEYS": NEW})
    assert somewhere.finished(201) == {"completed": 201}
    assert ran(somewhere) == {"kept True": 150, "whispered 5": 50, "greeted 1": 1}


def test_what_rabbitmq_has_under_a_key_that_was_dropped_is_read_from_the_ledger(on_rabbitmq: System) -> None:
    on_rabbitmq.env["HARELINE_KEYS"] = OLD
    sender = on_rabbitmq.shell(APP)
    sender.run(f"for n in range(5): whisper.send(log, {MARKER!r}); keep.send(log, {MARKER!r})")
    control = Control(on_rabbitmq.database_url, "rabbitmq")
    assert rotate(control, KeyRing(keys_of(f"{NEW},{OLD}")), by="test").rows.total() == 10
    control.close()
    on_rabbitmq.worker(app=APP, env={"HARELINE_KEYS": NEW})
    assert on_rabbitmq.finished(10) == {"completed": 10}
    assert ran(on_rabbitmq) == {f"whispered {len(MARKER)}": 5, "kept True": 5}

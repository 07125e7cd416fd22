"""What is sensitive is nowhere in clear, and keys may be rotated while jobs run."""

import base64
from contextlib import suppress
from pathlib import Path

import pytest

from ledger.tables import metadata
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


def test_a_secret_is_nowhere_in_clear(anywhere: System, request: pytest.FixtureRequest) -> None:
    anywhere.env |= {"HARELINE_KEYS": OLD, "HARELINE_LOG_LEVEL": "DEBUG"}
    rabbit = request.getfixturevalue("rabbitmq") if anywhere.broker_url else None
    sender = anywhere.shell(APP)
    sender.run(f"m = {MARKER!r}")
    sender.run("for _ in range(5): whisper.send(log, m)")
    sender.run("whisper.send_with_options(args=(log, m), kwargs={'fails': True}, on_failure='mourn')")
    sender.run("charge.send(log, 'ada', {'holder': 'Ada', 'number': m}, 1, 2)")
    sender.run("charge.send(log, 'bob', Card(holder='Bob', number=m), Secret(3))")
    sender.run("keep.send(log, m)")
    sender.run("(whisper.message(log, m) | greet.message(log)).run()")
    if rabbit is not None:
        carried = Rabbit(rabbit, anywhere.broker_url or "")
        anywhere.until(lambda: carried.ready()["work"] == 10)
        on_disk = below(rabbit.data)
        assert in_clear(on_disk) == []
        assert any(b"hareline-sealed:2026-05:" in what for what in on_disk.values()), "the messages are there"
    anywhere.worker(app=APP)
    sender.run("sent = whisper.send(log, m); assert sent.get_result(block=True, timeout=30_000) == m.upper()")
    anywhere.finished(13)
    assert ran(anywhere) == {
        f"whispered {len(MARKER)}": 7,
        f"greeted {len(MARKER)}": 1,
        f"ada Card(holder='Ada', number=Secret(…)) {len(MARKER)} 3": 1,
        f"bob Card(holder='Bob', number=Secret(…)) {len(MARKER)} 3": 1,
        "kept True": 1,
    }
    assert anywhere.sql("SELECT actor, reason FROM jobs WHERE state = 'failed'") == [("whisper", "retries_exhausted")]
    found = everywhere(anywhere)
    assert in_clear(found) == [], [line for line in anywhere.workers[0].lines if MARKER.lower() in line.lower()]
    assert b"Received arguments that are encrypted" in found["log of worker 0"], "it logs what might be them"
    assert b"It is RuntimeError; its text is encrypted" in found["log of worker 0"]
    [(text, where)] = anywhere.sql("SELECT error_message, traceback FROM attempts WHERE outcome = 'failed'")
    assert text.startswith("hareline-sealed:2026-05:")
    assert "in whisper" in where
    if anywhere.database_url.startswith("postgresql:"):
        anywhere.sql("CHECKPOINT")
        assert in_clear(below(request.getfixturevalue("postgres").data)) == []
    if rabbit is not None:
        letters = anywhere.until(lambda: carried.letters("work.XQ"))
        assert isinstance(letters, list)
        [letter] = letters
        assert letter.headers["hareline-error"] == "RuntimeError: <encrypted: key 2026-05>"
        assert in_clear({"letter": letter.body, "on the disk": b"".join(below(rabbit.data).values())}) == []

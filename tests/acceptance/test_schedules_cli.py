"""``hareline schedules`` as people and scripts use it: many commands, one process, for each takes a second to start."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.program import environment

PROGRAM = """
import contextlib, io, json, sys
from cli import main
for line in sys.stdin:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(["schedules", *json.loads(line)], prog_name="hareline")
            code = 0
        except SystemExit as end:
            code = end.code
    print(json.dumps([code, out.getvalue(), err.getvalue()]), flush=True)
"""


class Prompt:
    """A place to type commands at."""

    def __init__(self, folder: Path, url: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            cwd=folder,
            env=environment(DATABASE_URL=url),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, code: int = 0) -> str:
        """What it prints; when it is to fail, on stderr."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(arguments) + "\n")
        self._process.stdin.flush()
        ended, out, err = json.loads(self._process.stdout.readline())
        assert ended == code, f"{ended}: {out}{err}"
        return str(err if code else out)

    def json(self, *arguments: str) -> Any:
        return json.loads(self.run(*arguments, "--json"))

    def close(self) -> None:
        self._process.communicate(timeout=60)


@pytest.fixture
def prompt(tmp_path: Path, sqlite_url: str) -> Iterator[Prompt]:
    prompt = Prompt(tmp_path, sqlite_url)
    yield prompt
    prompt.close()


def test_a_schedules_life_from_the_command_line(prompt: Prompt) -> None:
    when = ("0 9 * * mon-fri", "--tz", "Europe/Paris", "--jitter", "30s", "--missed", "all", "--most", "3")
    added = prompt.json("add", "audit", "cleanup_audit_log", *when, "--kwargs", '{"retention_days": 9}')
    assert (added["change"], added["words"][:38]) == ("added", "every weekday at 09:00 in Europe/Paris")
    assert "audit: cleanup_audit_log every day" in prompt.run("set", "audit", "--when", "0 9 * * *", "--within", "2h")
    [row] = prompt.json("ls")
    assert (row["state"], row["healthy"], row["source"]) == ("active", True, "data")
    expected = {"when": "0 9 * * *", "within_s": 7200.0, "most": 3, "kwargs": {"retention_days": 9}, "missed": "all"}
    assert {name: row["definition"][name] for name in expected} == expected

    assert prompt.json("pause", "audit") == {"audit": "paused"}
    assert prompt.json("show", "audit")["state"] == "paused"
    job = prompt.json("run", "audit")["job"]
    [tick] = prompt.json("show", "audit")["ticks"]
    assert (tick["job"], tick["outcome"], tick["state"], tick["late_s"]) == (job, "sent", "waiting", None)
    assert "goes on" in prompt.run("resume", "audit")
    assert "cleanup_audit_log" in prompt.run("show", "audit")
    assert prompt.run("ls", "--unhealthy").splitlines()[1:] == []

    fold = ("--when", "30 2 * * *", "--tz", "Europe/Paris", "--after", "2026-10-24T12:00+02:00", "-n", "2")
    assert prompt.json("preview", *fold)["fires"] == [
        {"local": "2026-10-25T02:30:00+02:00", "utc": "2026-10-25T00:30:00+00:00"},
        {"local": "2026-10-26T02:30:00+01:00", "utc": "2026-10-26T01:30:00+00:00"},
    ]
    assert prompt.run("preview", "audit", "-n", "3").count("09:00:00 CE") == 3
    assert "add --yes" in prompt.run("rm", "audit", code=2)
    assert "is removed" in prompt.run("rm", "audit", "--yes")
    assert prompt.json("ls") == []


def test_what_is_wrong_is_refused_by_name_with_a_stable_exit_code(prompt: Prompt) -> None:
    prompt.run("add", "audit", "cleanup_audit_log", "every 5m")
    for arguments, code, words in (
        (("add", "x", "cleanup_audit_log", "0 25 * * *"), 2, "schedule 'x': the cron fields '0 25 "),
        (("add", "x", "cleanup_audit_log", "every 3s", "--tz", "Europe/Pari"), 2, "'Europe/Pari'"),
        (("add", "x", "cleanup_audit_lok", "every 3s"), 2, "the nearest is cleanup_audit_log"),
        (("add", "x", "cleanup_audit_log", "every 3s", "--args", "[1, 2]"), 2, "do not fit the signature"),
        (("add", "x", "cleanup_audit_log", "every 3s", "--start", "2026-01-01"), 2, "no time zone"),
        (("add", "x", "cleanup_audit_log", "every 3s", "--overlap", "maybe"), 2, "overlap is allow"),
        (("add", "audit", "cleanup_audit_log", "every 3s"), 2, "`hareline schedules set audit`"),
        (("set", "audit"), 2, "nothing to change"),
        (("set", "audi", "--when", "every 3s"), 3, "did you mean audit?"),
        (("show", "audi"), 3, "did you mean audit?"),
        (("pause", "audi"), 3, "no schedule 'audi'"),
        (("preview",), 2, "say which"),
    ):
        assert words in prompt.run(*arguments, code=code)
    assert [row["key"] for row in prompt.json("ls")] == ["audit"]

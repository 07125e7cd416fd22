"""`hareline top` under a terminal of its own."""

import fcntl
import json
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from ledger import open_ledger
from ledger.records import Finish, NewJob
from ledger.states import Outcome, Reason
from tests.acceptance.nursery import nursery
from tests.program import environment, hareline

pytestmark = pytest.mark.prove

NASTY = "bill\x1b[2J\x1b]0;owned\x07\u202eevil"


@pytest.fixture
def ledger(sqlite_url: str) -> str:
    """Three queues; jobs that wait, run and failed; names that would like to take the terminal over."""
    session = open_ledger(sqlite_url, road="embedded").session("test")
    worker = session.join(host="elsewhere", pid=7, queues=["billing", NASTY], threads=8, version="0")
    jobs = [
        NewJob(f"00000000-0000-7000-8000-{number:012x}", str(number), queue, NASTY, 3, b"{}", delay_ms=delay)
        for number, (queue, delay) in enumerate(
            [("billing", 0)] * 3 + [(NASTY, 0)] * 2 + [("later", 3_600_000)] * 4 + [("mail", 0)] * 7
        )
    ]
    session.enqueue(jobs)
    claims = session.take(worker, {"billing": 2, NASTY: 1})
    said = ("ValueError", f"no \x1b[31mluck\n{NASTY}", "File x")
    session.finish(worker, [Finish(claims[0].id, claims[0].epoch, Outcome.FAILED, Reason.RETRIES_EXHAUSTED, *said)])
    session.close()
    return sqlite_url


class Terminal:
    """A program in a terminal of this size, and what it shows."""

    def __init__(self, master: int, process: "subprocess.Popen[bytes]") -> None:
        self.master, self.process = master, process
        self.raw = b""

    def read(self, wait_s: float) -> None:
        if select.select([self.master], [], [], wait_s)[0]:
            with suppress(OSError):  # it has ended
                self.raw += os.read(self.master, 65_536)

    def shown(self) -> list[str]:
        """The lines of the last screen: rich draws each from the top left corner."""
        last = self.raw.decode(errors="replace").rpartition("\x1b[H")[2]
        return [line.rstrip() for line in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", last).splitlines()]

    def until(self, pattern: str, timeout_s: float = 60.0) -> list[str]:
        """The lines of a screen that is there to its last line, the keys."""
        deadline = time.monotonic() + timeout_s
        while not re.search(rf"{pattern}(.|\n)*↑↓ reverse", "\n".join(self.shown())):
            assert time.monotonic() < deadline, "\n".join(self.shown()) or self.raw
            self.read(0.1)
        return self.shown()

    def press(self, keys: str) -> None:
        os.write(self.master, keys.encode())


@contextmanager
def terminal(url: str, folder: Path, columns: int, lines: int, *arguments: str) -> Iterator[Terminal]:
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    env = {**environment(DATABASE_URL=url), "TERM": "xterm-256color"}
    env.pop("COLUMNS", None)
    env.pop("LINES", None)
    process = subprocess.Popen(
        hareline("top", *arguments),
        cwd=folder,
        env=env,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    found = Terminal(master, process)
    try:
        yield found
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        os.close(master)


def ended(shown: Terminal) -> int:
    while shown.process.poll() is None:
        shown.read(0.1)
    shown.read(0.1)
    return shown.process.wait()


@pytest.mark.parametrize(("columns", "lines"), [(80, 24), (160, 40)])
def test_it_shows_queues_workers_jobs_and_failures_on_one_screen(
    ledger: str, tmp_path: Path, columns: int, lines: int
) -> None:
    with terminal(ledger, tmp_path, columns, lines) as top:
        screen = top.until("FAILURES")
        assert len(screen) <= lines
        assert max(map(len, screen)) <= columns
        text = "\n".join(screen)
        assert "9 waiting  2 active  4 delayed  1 failed" in text
        for word in ("QUEUES", "WORKERS", "RUNNING", "FAILURES", "billing", "mail", "later", "elsewhere:7", "2/8"):
            assert word in text
        assert "ValueError" in text
        top.press("q")
        assert ended(top) == 0
        assert top.raw.count(b"\x1b[?1049h") == top.raw.count(b"\x1b[?1049l") == 1


def test_names_and_errors_cannot_act_on_the_terminal(ledger: str, tmp_path: Path) -> None:
    with terminal(ledger, tmp_path, 160, 40) as top:
        text = "\n".join(top.until("FAILURES"))
        assert b"\x1b[2J" not in top.raw
        assert b"\x1b]0;" not in top.raw
        assert "\u202e" not in top.raw.decode(errors="replace")
        assert r"bill\x1b[2J" in text
        top.press("q")
        ended(top)


def test_keys_sort_reverse_and_hold_still(ledger: str, tmp_path: Path) -> None:
    def first(screen: list[str]) -> str:
        heading = next(number for number, line in enumerate(screen) if line.startswith("QUEUES"))
        return screen[heading + 1].split()[0]

    with terminal(ledger, tmp_path, 80, 24, "--every", "0.2") as top:
        assert first(top.until("waiting↓")) == "mail"
        top.press("\x1b[C\x1b[C")  # right, right
        assert first(top.until("delayed↓")) == "later"
        top.press("\x1b[A")
        assert first(top.until("delayed↑")) != "later"
        top.press("p")
        before = top.until("PAUSED")
        session = open_ledger(ledger, road="embedded").session("test")
        session.enqueue([NewJob("00000000-0000-7000-8000-0000000000ff", "new", "mail", "x", 3, b"{}")])
        session.close()
        top.press("\t\t")
        assert [line for line in top.until("PAUSED") if "mail" in line] == [line for line in before if "mail" in line]
        top.press("p")
        top.until(r"mail\s+8\b")
        top.process.send_signal(signal.SIGTERM)
        assert ended(top) == 0
        assert top.raw.count(b"\x1b[?1049l") == 1


def test_without_a_terminal_it_prints_once(ledger: str, tmp_path: Path) -> None:
    def run(*arguments: str) -> str:
        done = nursery().run(["-m", "cli", "top", *arguments], env=environment(DATABASE_URL=ledger), cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "\x1b" not in done.stdout
        return done.stdout

    session = open_ledger(ledger, road="embedded").session("test")
    session.join(host=socket.gethostname(), pid=os.getpid(), queues=["mail"], threads=1, version="0")
    session.close()
    lines = run().splitlines()
    assert any(re.search(rf"\t{os.getpid()}\t.*\t\d+ MiB\t", line) for line in lines)
    assert lines[0].startswith("queue\twaiting")
    assert any(line.startswith("mail\t7\t0\t0") for line in lines)
    found = json.loads(run("--once", "--json"))
    assert {queue["name"]: queue["counts"] for queue in found["queues"]}["mail"] == {"waiting": 7}
    assert [row["attempt"] for row in found["running"]] == [1, 1]
    assert found["failures"][0]["reason"] == "retries_exhausted"
    memory = {worker["host"]: worker["memory"] for worker in found["workers"]}
    assert memory["elsewhere"] is None
    assert memory[socket.gethostname()] > 2**20

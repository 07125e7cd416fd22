"""``hareline top``: queues, workers, what runs and what failed, as it happens."""

import os
import re
import select
import signal
import sys
import termios
import threading
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from cli.shown import as_json, duration, plain, size, table
from errors import HarelineError
from settings import load, mask

if TYPE_CHECKING:
    from ledger.live import Live, Moment

#: At most this share of the time is spent on asking; a ledger that answers slowly is asked less often.
SHARE = 0.2
#: How often a resized terminal is drawn anew.
DRAW_S = 0.25


def top(
    every: Annotated[float, typer.Option(min=0.2, max=3600, help="Seconds between two looks.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Print how things stand, and end.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print that as JSON, and end.")] = False,
) -> None:
    """Watch queues, workers, running jobs and failures.

    Keys: q ends it, p holds it still, tab goes to the next table, ← → choose what it is sorted by, ↑ ↓ reverse that.
    Where there is no terminal, it prints once and ends.
    """
    from ledger.live import Live

    url = load().database_url
    live = Live(url)
    try:
        if json or once or not sys.stdout.isatty():
            _print(live, json)
        else:
            _watch(live, mask(url), every)
    finally:
        live.close()


def _print(live: "Live", json: bool) -> None:
    from cli.screen import memory_of

    moment = live.look()
    if json:
        workers = [plain(worker) | {"memory": memory_of(worker)} for worker in moment.workers]
        return as_json(plain(moment) | {"workers": workers})
    states = ("waiting", "active", "delayed", "completed", "failed")
    table(
        ("queue", *states, "per second", "oldest waiting", "paused"),
        [
            (
                queue.name,
                *({str(state): count for state, count in queue.counts.items()}.get(state, 0) for state in states),
                f"{moment.rates.get(queue.name, 0.0):.1f}",
                duration(queue.oldest_waiting_s),
                queue.paused,
            )
            for queue in moment.queues
        ],
    )
    table(
        ("worker", "host", "pid", "active", "threads", "memory", "last heartbeat"),
        [(x.id, x.host, x.pid, x.active, x.threads, size(memory_of(x)), duration(x.silent_s)) for x in moment.workers],
    )
    table(
        ("running", "actor", "queue", "worker", "attempt", "for"),
        [(x.id, x.actor, x.queue, x.where, x.attempt, duration(x.elapsed_s)) for x in moment.running],
    )
    table(
        ("failed", "actor", "queue", "reason", "error", "ago"),
        [(x.id, x.actor, x.queue, x.reason, x.error, duration(x.ago_s)) for x in moment.failures],
        cut="error",
    )


class Asker(threading.Thread):
    """Looks again and again, so that keys are answered while the ledger is slow."""

    def __init__(self, live: "Live", every_s: float) -> None:
        super().__init__(daemon=True)
        self._live = live
        self._every_s = every_s
        self._stopping = threading.Event()
        self.found: tuple[Moment | None, str] = (None, "")

    def run(self) -> None:
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                self.found = (self._live.look(), "")
            except HarelineError as error:
                self.found = (self.found[0], str(error))
            took_s = time.monotonic() - began
            self._stopping.wait(max(self._every_s, took_s / SHARE) - took_s)

    def stop(self) -> None:
        self._stopping.set()
        self.join(5.0)


def _watch(live: "Live", address: str, every_s: float) -> None:
    from rich.console import Console
    from rich.live import Live as Display

    from cli.screen import Screen

    console = Console(highlight=False)
    screen = Screen(address)
    asker = Asker(live, every_s)
    asker.start()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # by way of what gives the terminal back
    drawn: object = None
    try:
        with _keys() as pressed, Display(console=console, screen=True, auto_refresh=False) as display:
            while True:
                found, size = asker.found, console.size
                state = (found, size)
                if state != drawn:
                    drawn = state
                    if not screen.paused:
                        moment, screen.trouble = found
                        if moment is not None and moment is not screen.moment:
                            screen.see(moment)
                    display.update(screen.render(size.width, size.height), refresh=True)
                for key in pressed(DRAW_S):
                    if not screen.press(key):
                        return
                    drawn = None
    except KeyboardInterrupt:
        pass
    finally:
        asker.stop()


@contextmanager
def _keys() -> Iterator[Callable[[float], list[str]]]:
    """What was pressed within so many seconds; nothing ever is where standard input is no terminal."""
    if not sys.stdin.isatty():

        def wait(seconds: float) -> list[str]:
            time.sleep(seconds)
            return []

        yield wait
        return
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)

    def pressed(seconds: float) -> list[str]:
        if not select.select([descriptor], [], [], seconds)[0]:
            return []
        text = os.read(descriptor, 1024).decode(errors="replace")
        return re.findall(r"\x1b[\[O][A-Za-z]|.", text, re.DOTALL) or ["\x04"]

    try:
        tty.setcbreak(descriptor)
        yield pressed
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)

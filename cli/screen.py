"""What ``hareline top`` shows: four tables, as much of each as the terminal has room for."""

import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cli.shown import duration, size
from ledger.live import Moment
from ledger.states import State
from ledger.views import QueueView, WorkerView
from logs import clean

#: A queue whose oldest job has waited this long is shown in yellow, and in red.
SLOW_S, STUCK_S = 300.0, 1800.0


class Column(NamedTuple):
    """One column of a table: how its cells read, and by what they are sorted.

    ``share``: of the width that others leave; 0 is as wide as its cells, and at the right.
    """

    title: str
    show: Callable[[Any], str]
    key: Callable[[Any], Any]
    share: int = 0
    style: Callable[[Any], str] = lambda _: ""
    wide: bool = False  #: only on a wide terminal


@dataclass
class Pane:
    """One table, and how a person wants it sorted."""

    title: str
    columns: Sequence[Column]
    by: int
    falling: bool = True
    rows: Sequence[Any] = ()

    def turn(self, step: int, width: int) -> None:
        """Sort by the next column, or the one before."""
        shown = [place for place, column in enumerate(self.columns) if width >= WIDE or not column.wide]
        here = shown.index(self.by) if self.by in shown else 0
        self.by = shown[(here + step) % len(shown)]

    def sorted(self) -> list[Any]:
        return sorted(self.rows, key=self.columns[self.by].key, reverse=self.falling)


#: From so many columns on a terminal is wide.
WIDE = 110


@dataclass
class Screen:
    """The state of the display: what was read last, which table has the keys, whether it stands still."""

    address: str
    moment: Moment | None = None
    trouble: str = ""
    paused: bool = False
    focus: int = 0
    width: int = 80
    panes: list[Pane] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.panes = [
            Pane("queues", _queues(self), 1),
            Pane("workers", _workers(self), 0, falling=False),
            Pane("running", _RUNNING, 4),
            Pane("failures", _FAILURES, 0, falling=False),
        ]

    def see(self, moment: Moment) -> None:
        """Show this from now on."""
        self.moment = moment
        for pane, rows in zip(
            self.panes, (moment.queues, moment.workers, moment.running, moment.failures), strict=True
        ):
            pane.rows = rows

    def press(self, key: str) -> bool:
        """What a key does; false when it ends the display."""
        pane = self.panes[self.focus]
        match key:
            case "q" | "Q" | "\x03" | "\x04":
                return False
            case "p" | "P" | " ":
                self.paused = not self.paused
            case "\t":
                self.focus = (self.focus + 1) % len(self.panes)
            case "\x1b[Z":
                self.focus = (self.focus - 1) % len(self.panes)
            case "\x1b[C" | "\x1bOC":
                pane.turn(1, self.width)
            case "\x1b[D" | "\x1bOD":
                pane.turn(-1, self.width)
            case "\x1b[A" | "\x1bOA" | "\x1b[B" | "\x1bOB":
                pane.falling = not pane.falling
        return True

    def render(self, width: int, height: int) -> RenderableType:
        """Exactly one screen, of at most ``height`` lines."""
        self.width = width
        if self.moment is None:
            return self._head()
        parts: list[RenderableType] = [self._head()]
        wanted = [len(pane.rows) + 1 for pane in self.panes]
        gap = sum(wanted) + 2 + len(wanted) <= height
        for place, (pane, room) in enumerate(zip(self.panes, _rooms(wanted, height - 2), strict=True)):
            if room >= 2 or gap:
                parts += [Text("")] * gap
                parts.append(self._table(pane, room - 1, focused=place == self.focus))
        parts += [Text("")] * (height - 2 - sum(wanted) - gap * len(wanted))
        parts.append(_line(" q quit  p pause  tab table  ←→ sort by  ↑↓ reverse", "dim"))
        return Group(*parts)

    def _head(self) -> Text:
        if self.moment is None:
            return _line(f"hareline top  {self.address}  {self.trouble or 'asking …'}", "bold")
        counts = {
            state: sum(queue.counts.get(state, 0) for queue in self.moment.queues)
            for state in (State.WAITING, State.ACTIVE, State.DELAYED, State.FAILED)
        }
        said = "  ".join(f"{count:,} {state}" for state, count in counts.items())
        rate = sum(self.moment.rates.values())
        text = f"{self.moment.at.astimezone():%H:%M:%S}  {said}  {rate:,.1f}/s  {len(self.moment.workers)} workers"
        line = _line(text, "bold")
        if self.trouble:
            line.append(f"  {clean(self.trouble)}", "bold red")
        elif self.paused:
            line.append("  PAUSED", "bold yellow")
        return line

    def _table(self, pane: Pane, room: int, *, focused: bool) -> Table:
        table = Table(box=None, pad_edge=False, expand=True, padding=(0, 1, 0, 0), header_style="dim")
        columns = [column for column in pane.columns if self.width >= WIDE or not column.wide]
        for place, column in enumerate(columns):
            title = Text(column.title, no_wrap=True)
            if column is pane.columns[pane.by]:
                title.append("↓" if pane.falling else "↑")
            if place == 0:
                title = Text(f"{pane.title.upper()} ", "bold reverse" if focused else "bold") + title
            table.add_column(
                title,
                justify="left" if column.share or place == 0 else "right",
                no_wrap=True,
                overflow="ellipsis",
                ratio=column.share or None,
            )
        rows = pane.sorted()
        for row in rows[:room]:
            table.add_row(*(Text(clean(column.show(row)), column.style(row), no_wrap=True) for column in columns))
        return table


def _line(text: str, style: str) -> Text:
    return Text(clean(text), style, no_wrap=True, overflow="ellipsis")


def _rooms(wanted: Sequence[int], height: int) -> list[int]:
    """How many lines each table gets, its heading among them: what it needs, or a fair share of what there is."""
    rooms = [0] * len(wanted)
    left = height
    while left > 0 and (short := [place for place, lines in enumerate(wanted) if rooms[place] < lines]):
        share = max(1, left // len(short))
        for place in short:
            more = min(share, wanted[place] - rooms[place], left)
            rooms[place] += more
            left -= more
    return rooms


def _waited(queue: QueueView) -> str:
    waited = queue.oldest_waiting_s or 0.0
    return "red" if waited > STUCK_S else "yellow" if waited > SLOW_S else ""


def _queues(screen: Screen) -> Sequence[Column]:
    def count(state: State, style: str = "") -> Column:
        return Column(
            state,
            lambda queue: f"{queue.counts.get(state, 0):,}",
            lambda queue: queue.counts.get(state, 0),
            style=lambda queue: style if queue.counts.get(state) else "dim",
            wide=state is State.COMPLETED,
        )

    def rate(queue: QueueView) -> float:
        return screen.moment.rates.get(queue.name, 0.0) if screen.moment else 0.0

    return (
        Column("", lambda queue: f"{queue.name}{' (paused)' if queue.paused else ''}", lambda queue: queue.name, 1,
               lambda queue: "yellow" if queue.paused else ""),
        count(State.WAITING, "blue"),
        count(State.ACTIVE, "cyan"),
        count(State.DELAYED, "magenta"),
        count(State.COMPLETED, "green"),
        count(State.FAILED, "red"),
        Column("per s", lambda queue: f"{rate(queue):.1f}", rate),
        Column("oldest", lambda queue: duration(queue.oldest_waiting_s), lambda queue: queue.oldest_waiting_s or 0.0,
               style=_waited),
    )  # fmt: skip


def _workers(screen: Screen) -> Sequence[Column]:
    def jobs(worker: WorkerView) -> str:
        running = screen.moment.running if screen.moment else ()
        return ", ".join(row.actor for row in running if row.worker == worker.id)

    return (
        Column("", lambda worker: f"{worker.host}:{worker.pid}", lambda worker: (worker.host, worker.pid), 2,
               lambda worker: "yellow" if worker.state == "stopping" else ""),
        Column("busy", lambda worker: f"{worker.active}/{worker.threads}", lambda worker: worker.active),
        Column("memory", lambda worker: size(memory_of(worker)), lambda worker: memory_of(worker) or 0),
        Column("beat", lambda worker: duration(worker.silent_s), lambda worker: worker.silent_s),
        Column("serves", lambda worker: ", ".join(worker.queues), lambda worker: list(worker.queues), 2, wide=True),
        Column("runs", jobs, jobs, 3),
    )  # fmt: skip


_RUNNING: Sequence[Column] = (
    Column("", lambda row: row.actor, lambda row: row.actor, 3),
    Column("queue", lambda row: row.queue, lambda row: row.queue, 2),
    Column("worker", lambda row: row.where, lambda row: row.where, 2, wide=True),
    Column("attempt", lambda row: str(row.attempt), lambda row: row.attempt),
    Column("for", lambda row: duration(row.elapsed_s), lambda row: row.elapsed_s),
    Column("id", lambda row: row.id, lambda row: row.id, wide=True),
)
_FAILURES: Sequence[Column] = (
    Column("ago", lambda row: duration(row.ago_s), lambda row: row.ago_s),
    Column("actor", lambda row: row.actor, lambda row: row.actor, 2),
    Column("queue", lambda row: row.queue, lambda row: row.queue, 2, wide=True),
    Column("reason", lambda row: row.reason, lambda row: row.reason, 0, lambda _: "red"),
    Column("error", lambda row: row.error, lambda row: row.error, 4),
    Column("id", lambda row: row.id, lambda row: row.id, wide=True),
)


def memory_of(worker: WorkerView) -> int | None:
    """Bytes of a process of this machine; None of another's."""
    if worker.host != socket.gethostname():
        return None
    try:
        pages = int(Path(f"/proc/{worker.pid}/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")

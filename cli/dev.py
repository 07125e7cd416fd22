"""``hareline dev``: a worker, the scheduler and the console in one terminal, started again when the code changes."""

import signal
import sys
import threading
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from cli.children import Changed, Child, Ended, Inbox, Stops, catch, fate, receive
from settings import load, loopback

_ROOT = Path(__file__).parents[1]
_COLOURS: Mapping[str, str] = {"worker": "cyan", "scheduler": "magenta", "console": "green", "dev": "yellow"}


def dev(
    processes: Annotated[int, typer.Option("-p", "--processes", min=1, help="Worker processes.")] = 1,
    reload: Annotated[bool, typer.Option(help="Start again when a *.py file changes.")] = True,
) -> None:
    """Run a worker, the scheduler and the console, reloading.

    They start again when a *.py file changes.

    Ctrl-C: all end in good order.  A second one: kill.
    """
    settings = load()  # what is wrong with them is said once, not by each process
    env = {"PYTHONUNBUFFERED": "1"} | ({"HARELINE_LOG_FORMAT": "text"} if settings.log_format == "auto" else {})
    commands = {"worker": ["worker", "-p", str(processes)], "scheduler": ["scheduler"]}
    if find_spec("fastapi") is not None:  # with the extra `dashboard`
        commands["console"] = ["console"]
    if loopback(settings.console_host) and "console_insecure_local" not in settings.origins:
        env["HARELINE_CONSOLE_INSECURE_LOCAL"] = "true"  # whoever develops here has the database's password anyway
    raise typer.Exit(Terminal(commands, env).run(reload))


class Terminal:
    """The processes of one terminal, by name."""

    def __init__(self, commands: Mapping[str, list[str]], env: Mapping[str, str]) -> None:
        self._commands = commands
        self._env = env
        self._inbox: Inbox = Inbox()
        self._children: dict[str, Child] = {}
        self._console = Console(highlight=False, soft_wrap=True)
        self._lock = threading.Lock()
        self._reloads = False
        self._reloading = False
        self._stopping = False
        self._stops = Stops()

    def run(self, reload: bool) -> int:
        """Returns 0 when everything ended in good order.  For the main thread."""
        catch(self._inbox, signal.SIGTERM, signal.SIGINT)
        over = threading.Event()
        self._reloads = reload
        if reload:
            packages = [path.parent for path in _ROOT.glob("*/__init__.py") if path.parent.name != "tests"]
            for folders, deep in ((packages, True), ([_ROOT], False)):
                threading.Thread(target=self._watch, args=(folders, deep, over), daemon=True).start()
        self._start()
        code = 0
        while not (self._stopping and not self._children):
            match receive(self._inbox, None):
                case signal.Signals():
                    code |= self._stop()
                case Changed(paths=paths) if not (self._stopping or self._reloading):
                    self._say("dev", f"changed: {', '.join(paths[:3])}{' …' if paths[3:] else ''}; starting again")
                    self._reload()
                case Ended(child=child, code=ended):
                    self._ended(child, ended)
                    code |= self._stopping and ended != 0
        over.set()
        self._say("dev", "stopped")
        return int(code)

    def _start(self) -> None:
        for name, arguments in self._commands.items():
            child = Child([sys.executable, "-m", "cli", *arguments], self._inbox, env=self._env, piped=True)
            self._children[name] = child
            threading.Thread(target=self._copy, args=(name, child), daemon=True).start()

    def _stop(self) -> int:
        if self._stops.again():
            for child in self._children.values():
                child.kill()
            return 1
        if self._stopping:
            return 0
        self._stopping = True
        self._say("dev", "stopping; Ctrl-C again kills")
        for child in self._children.values():
            child.ask()
        return 0

    def _reload(self) -> None:
        self._reloading = True
        for child in self._children.values():
            child.ask()
        self._started_again()

    def _ended(self, child: Child, code: int) -> None:
        name = next(name for name, one in self._children.items() if one is child)
        del self._children[name]
        if not (self._stopping or self._reloading):
            remedy = "it is started again when a file changes" if self._reloads else "end this, and start it again"
            self._say(name, f"{fate(code)}; {remedy}")
        self._started_again()

    def _started_again(self) -> None:
        """Start the new ones once the old ones have all ended: both would take the same jobs."""
        if self._reloading and not self._children and not self._stopping:
            self._reloading = False
            self._start()

    def _copy(self, name: str, child: Child) -> None:
        assert child.process.stdout is not None
        for line in child.process.stdout:
            self._say(name, line.rstrip("\n"))

    def _say(self, name: str, line: str) -> None:
        prefix = Text(f"{name:<9} │ ", style=_COLOURS[name])
        with self._lock:
            self._console.print(prefix + Text.from_ansi(line))

    def _watch(self, folders: list[Path], deep: bool, over: threading.Event) -> None:
        from watchfiles import PythonFilter, watch

        for changes in watch(
            *folders, watch_filter=PythonFilter(), recursive=deep, stop_event=over, raise_interrupt=False
        ):
            self._inbox.put(Changed(tuple(sorted({Path(path).name for _, path in changes}))))

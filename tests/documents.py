"""The documentation as data: its pages, their fenced blocks, and how to play them.

What stands behind a block's language says what a test does with it:

    python            must compile
    python run        is run, in the page's folder
    LANG file=PATH    is written there
    diff edit=PATH    the lines with ``-`` are replaced by those with ``+``
    console run       every ``$ command`` is run and must print what follows it; ``…`` stands for anything, and ``ID``
                      in a command for the job id that was printed last
    console until     the same, again and again until it prints that
    console start     ``$ command`` is started, in place of the one started before, and left running
    text printed      what was started prints these lines, in this order
"""

import re
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import run
from textwrap import dedent

from tests.program import Program

ROOT = Path(__file__).parents[1]
PAGES = (*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md")))


@dataclass(frozen=True)
class Block:
    """A fenced block and what its opening line says."""

    page: Path
    line: int  #: of its first line, from 1
    language: str
    words: tuple[str, ...]
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    def named(self, name: str) -> str | None:
        """The value of ``name=value`` behind its language."""
        return next((word.partition("=")[2] for word in self.words if word.startswith(f"{name}=")), None)


def blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page, in order."""
    opened: tuple[int, list[str]] | None = None
    lines: list[str] = []
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if not line.lstrip().startswith("```"):
            lines.append(line)
        elif opened is None:
            opened, lines = (number + 1, line.strip("` ").split() or [""]), []
        else:
            start, (language, *words) = opened
            yield Block(page, start, language, tuple(words), dedent("".join(f"{line}\n" for line in lines)))
            opened = None
    assert opened is None, f"{page}: a block is not closed"


def prose(page: Path) -> str:
    """The page without its fenced blocks, each replaced by as many empty lines."""
    return re.sub(r"^ *```.*?^ *```$", lambda fence: "\n" * fence[0].count("\n"), page.read_text(), flags=re.M | re.S)


def commands(text: str) -> Iterator[tuple[str, str]]:
    """The commands of a console block, without the ``$``, each with what it is said to print."""
    for part in re.split(r"^\$ ", text, flags=re.M)[1:]:
        command, _, output = re.sub(r"\\\n", "", part).partition("\n")
        yield command, output


def fits(told: str, printed: str) -> bool:
    """Whether that was printed, but for the amount of white space; ``…`` in what was told fits anything."""

    def squeezed(text: str) -> str:
        return "\n".join(" ".join(line.split()) for line in text.strip().splitlines())

    pattern = re.sub(r"(\\\s)?…(\\\s)?", ".*", re.escape(squeezed(told)))  # with the white space around it
    return re.fullmatch(pattern, squeezed(printed), re.DOTALL) is not None


@dataclass
class Play:
    """One reader following a page, in a folder of their own.  Use it in a ``with``."""

    folder: Path
    env: dict[str, str]
    replaced: Mapping[str, str] = field(default_factory=dict)  #: texts of the page, and what the test has instead
    started: ExitStack = field(default_factory=ExitStack)
    last_id: str = "ID"
    program: Program = field(init=False)  #: what was started last
    _heard: int = 0  #: so many of its lines

    def __enter__(self) -> "Play":
        self.env["PATH"] = f"{Path(sys.executable).parent}:{self.env['PATH']}"
        return self

    def __exit__(self, *error: object) -> None:
        self.started.close()

    def play(self, block: Block) -> str:
        """Do what the block says; what a run printed.  An ``AssertionError`` names the block when it went wrong."""
        printed = ""
        text = block.text
        for told, instead in self.replaced.items():
            text = text.replace(told, instead)
        if (path := block.named("file")) is not None:
            (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / path).write_text(text)
        if (path := block.named("edit")) is not None:
            self._edit(block, self.folder / path, text)
        match (block.language, *block.words):
            case ("console", "start"):
                for command, _ in commands(text):
                    self.start(command)
            case ("text", "printed"):
                self._hear(block, text)
            case ("console", "run" | "until" as how):
                for command, told in commands(text):
                    printed += self._run(block, command, told, patience_s=60.0 if how == "until" else 0.0)
            case (_, "run"):
                printed = self._run(block, f"python - <<'END'\n{text}END", "…")
        return printed

    def _edit(self, block: Block, path: Path, text: str) -> None:
        old = "".join(f"{line[1:]}\n" for line in text.splitlines() if line.startswith("-"))
        new = "".join(f"{line[1:]}\n" for line in text.splitlines() if line.startswith("+"))
        before = path.read_text()
        assert before.count(old) == 1, f"{block}: {path.name} does not have these lines:\n{old}"
        path.write_text(before.replace(old, new))

    def start(self, command: str) -> None:
        """Start it, in place of what was started before."""
        self.started.close()
        self.program = self.started.enter_context(Program(["bash", "-c", f"exec {command}"], self.folder, self.env))
        self.started.callback(self.program.stop)  # before the program's own end, which kills
        self._heard = 0

    def _hear(self, block: Block, text: str) -> None:
        deadline = time.monotonic() + 60.0
        for told in text.splitlines():
            while True:
                lines = self.program.lines[self._heard :]
                found = next((number for number, line in enumerate(lines, 1) if fits(told, line)), 0)
                if found:
                    self._heard += found
                    break
                assert time.monotonic() < deadline, f"{block}: {told!r} is not printed:\n" + "\n".join(lines)
                time.sleep(0.05)

    def _run(self, block: Block, command: str, told: str, *, patience_s: float = 0.0) -> str:
        if export := re.fullmatch(r"export (\w+)=(\S+)", command):
            self.env[export[1]] = export[2]
            return ""
        command = re.sub(r"\bID\b", self.last_id, command)
        deadline = time.monotonic() + patience_s
        while True:
            done = run(
                ["bash", "-c", command],
                cwd=self.folder,
                env=self.env,
                capture_output=True,
                text=True,
                timeout=100,
                check=False,
            )
            assert done.returncode == 0, f"{block}: {command}\n{done.stdout}{done.stderr}"
            if fits(told, done.stdout):
                break
            assert time.monotonic() < deadline, f"{block}: {command}\nis to print\n{told}\nand printed\n{done.stdout}"
            time.sleep(0.1)
        if ids := re.findall(r"\b[0-9a-f]{8}-[0-9a-f-]{27}\b", done.stdout):
            self.last_id = ids[-1]
        return done.stdout

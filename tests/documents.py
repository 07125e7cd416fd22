"""The documentation as data: its pages, their fenced blocks, and how to play them.

What stands behind a block's language says what a test does with it:

    python            must compile
    python run        is run, in the page's folder
    LANG file=PATH    is written there
    diff edit=PATH    the lines with ``-`` are replaced by those with ``+``
    console run       every ``$ command`` is run and must print what follows it (``…`` stands for anything)
    console start     ``$ command`` is started and left running until the page ends
"""

import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import run

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
        if not line.startswith("```"):
            lines.append(line)
        elif opened is None:
            opened, lines = (number + 1, line.strip("`").split() or [""]), []
        else:
            start, (language, *words) = opened
            yield Block(page, start, language, tuple(words), "".join(f"{line}\n" for line in lines))
            opened = None
    assert opened is None, f"{page}: a block is not closed"


def prose(page: Path) -> str:
    """The page without its fenced blocks, each replaced by as many empty lines."""
    return re.sub(r"^```.*?^```$", lambda fence: "\n" * fence[0].count("\n"), page.read_text(), flags=re.M | re.S)


def commands(text: str) -> Iterator[tuple[str, str]]:
    """The commands of a console block, without the ``$``, each with what it is said to print."""
    for part in re.split(r"^\$ ", text, flags=re.M)[1:]:
        command, _, output = re.sub(r"\\\n", "", part).partition("\n")
        yield command, output


def fits(told: str, printed: str) -> bool:
    """Whether that was printed, but for the amount of white space; ``…`` in what was told fits anything."""

    def squeezed(text: str) -> str:
        return "\n".join(" ".join(line.split()) for line in text.strip().splitlines())

    pattern = re.escape(squeezed(told)).replace("…", ".*")
    return re.fullmatch(pattern, squeezed(printed), re.DOTALL) is not None


@dataclass
class Play:
    """One reader following a page, in a folder of their own.  Use it in a ``with``."""

    folder: Path
    env: dict[str, str]
    replaced: Mapping[str, str] = field(default_factory=dict)  #: texts of the page, and what the test has instead
    started: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> "Play":
        self.env["PATH"] = f"{Path(sys.executable).parent}:{self.env['PATH']}"
        return self

    def __exit__(self, *error: object) -> None:
        self.started.close()

    def play(self, block: Block) -> None:
        """Do what the block says; an ``AssertionError`` names it when something else happens."""
        text = block.text
        for told, instead in self.replaced.items():
            text = text.replace(told, instead)
        if (path := block.named("file")) is not None:
            (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / path).write_text(text)
        if (path := block.named("edit")) is not None:
            self._edit(block, self.folder / path, text)
        if block.language == "console" and "start" in block.words:
            for command, _ in commands(text):
                self._start(command)
        elif "run" in block.words:
            steps = commands(text) if block.language == "console" else [(f"python - <<'END'\n{text}END", "…")]
            for command, told in steps:
                self._run(block, command, told)

    def _edit(self, block: Block, path: Path, text: str) -> None:
        old = "".join(f"{line[1:]}\n" for line in text.splitlines() if line.startswith("-"))
        new = "".join(f"{line[1:]}\n" for line in text.splitlines() if line.startswith("+"))
        before = path.read_text()
        assert before.count(old) == 1, f"{block}: {path.name} does not have these lines:\n{old}"
        path.write_text(before.replace(old, new))

    def _start(self, command: str) -> None:
        program = Program(["bash", "-c", f"exec {command}"], self.folder, self.env)
        self.started.enter_context(program)
        self.started.callback(program.stop)  # before the program's own end, which kills

    def _run(self, block: Block, command: str, told: str) -> None:
        if export := re.fullmatch(r"export (\w+)=(\S+)", command):
            self.env[export[1]] = export[2]
            return
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
        assert fits(told, done.stdout), f"{block}: {command}\nis said to print\n{told}\nand printed\n{done.stdout}"

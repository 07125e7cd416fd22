"""The layers are what the documentation says, and importing any of them does no I/O."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# A module imports strictly lower rows only; modules of one row do not know each other.
ROWS = (
    {"hareline_testing"},
    {"scheduler", "cli", "dashboard"},
    {"actors"},
    {"broker"},
    {"middleware", "control", "embedded"},
    {"ledger", "rabbitmq"},
    {"logs", "metrics"},
    {"settings"},
    {"errors", "failpoints"},
)
ROW = {name: number for number, names in enumerate(ROWS) for name in names}
BESIDE = {"tests", "benchmarks"}  # they may import anything, and nothing imports them


def top_level() -> dict[str, list[Path]]:
    """The project's modules and packages, with their files."""
    modules = {path.stem: [path] for path in ROOT.glob("*.py")}
    packages = {
        path.name: sorted(path.rglob("*.py"))
        for path in ROOT.iterdir()
        if path.name.isidentifier() and any(path.glob("*.py"))
    }
    return modules | packages


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and top-level name of every import in a file, wherever it stands."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Import():
                yield from ((node.lineno, alias.name.partition(".")[0]) for alias in node.names)
            case ast.ImportFrom(level=0, module=str(module)):
                yield node.lineno, module.partition(".")[0]


def test_every_module_has_its_row() -> None:
    assert top_level().keys() - ROW.keys() - BESIDE == set()


@pytest.mark.parametrize("name", sorted(ROW))
def test_a_module_imports_strictly_lower_rows_only(name: str) -> None:
    files = top_level().get(name, [])
    assert files, f"{name} is in a row but not in the repository"
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {imported}"
        for path in files
        for line, imported in imports(path)
        if imported in BESIDE or (imported != name and imported in ROW and ROW[imported] <= ROW[name])
    ]
    assert wrong == []


def test_no_name_shadows_the_standard_library_or_an_installed_distribution() -> None:
    names = top_level().keys() - {"tests"}
    assert names & sys.stdlib_module_names == set()
    others = {name for name, distributions in packages_distributions().items() if set(distributions) != {"hareline"}}
    assert names & others == set()


_IMPORT_ALL = """
import importlib, os, sys

def refuse(event, arguments):
    if event == "open" and not (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR):
        return
    if event in FORBIDDEN:
        sys.stdout.write(f"{module}: {event} {arguments}\\n")

FORBIDDEN = {"open", "socket.connect", "socket.bind", "socket.getaddrinfo", "sqlite3.connect", "subprocess.Popen",
             "os.mkdir", "os.fork", "_thread.start_new_thread"}
sys.path.insert(0, sys.argv[1])
module = ""
sys.addaudithook(refuse)
for module in sys.argv[2:]:
    importlib.import_module(module)
"""


def test_importing_anything_does_no_io(tmp_path: Path) -> None:
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for name in sorted(ROW)
        for path in top_level().get(name, [])
        if "migrations" not in path.parts and path.stem != "__main__"  # Alembic's and Python's to run
    ]
    assert len(modules) > len(ROW)
    command = [sys.executable, "-B", "-c", _IMPORT_ALL, str(ROOT), *modules]
    run = subprocess.run(command, cwd=tmp_path, env={"LC_ALL": "C.UTF-8"}, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    assert run.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_the_import_check_sees_what_it_forbids(tmp_path: Path) -> None:
    for name, line in {
        "writes": "open('x', 'w')",
        "connects": "import socket; socket.socket().connect_ex(('127.0.0.1', 9))",
        "opens": "import sqlite3; sqlite3.connect('y')",
        "reads": "open(__file__)",
    }.items():
        (tmp_path / f"{name}.py").write_text(line)
    command = [sys.executable, "-B", "-W", "ignore", "-c", _IMPORT_ALL, str(tmp_path)]
    run = subprocess.run(
        [*command, "writes", "connects", "opens", "reads"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert [line.split()[:2] for line in run.stdout.splitlines()] == [
        ["writes:", "open"],
        ["connects:", "socket.connect"],
        ["opens:", "sqlite3.connect"],
    ]

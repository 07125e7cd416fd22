"""The documentation names only what exists, and its examples run."""

import ast
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from actors import broker
from actors.queues import CATALOGUE
from cli import main
from settings import VARIABLES, QueueSettings
from tests.documents import PAGES, ROOT, Play, blocks, commands, fits, prose
from tests.program import environment
from tests.unit.test_layers import ROWS

BLOCKS = [block for page in PAGES for block in blocks(page)]
GUARANTEES = (ROOT / "docs/guarantees.md").read_text()


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def files() -> list[Path]:
    """Every file of the repository, those not yet committed too."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [ROOT / path for path in listed.stdout.split("\0") if path and (ROOT / path).is_file()]


# -- code


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == "python"], ids=str)
def test_python_compiles(block: Any) -> None:
    compile(block.text, str(block), "exec")


# tests/acceptance follows these.
FOLLOWED = {
    ROOT / "README.md",
    ROOT / "docs/tutorial.md",
    ROOT / "docs/how-to/watch-rabbitmq.md",
    ROOT / "docs/how-to/sync-gmail.md",
}
PLAYED = [page for page in PAGES if page not in FOLLOWED and any(block.words for block in blocks(page))]
#: Each a dozen commands; left to ``make prove``.
LONG = {
    "add-a-job",
    "alerts",
    "break-circuits",
    "dramatiq-dashboard",
    "follow-events",
    "keep-secrets",
    "limit-concurrency",
    "limit-rates",
    "mend-many-jobs",
    "migrate-from-synchronous-code",
    "monitor",
    "operate-workers",
    "process-datasets",
    "run-workflows",
    "schedule-jobs",
    "secure-the-console",
    "send-in-a-transaction",
    "talk-to-a-running-job",
    "use-the-api",
    "use-the-console",
    "watch-a-chain",
}


@pytest.mark.parametrize(
    "page", [pytest.param(page, marks=[pytest.mark.prove] * (page.stem in LONG)) for page in PLAYED], ids=name
)
def test_examples_run(page: Path, tmp_path: Path) -> None:
    """On the embedded road, in a folder of their own."""
    with Play(tmp_path, environment()) as play:
        for block in blocks(page):
            play.play(block)


def test_what_is_printed_is_compared_but_for_white_space_and_ellipses() -> None:
    assert fits("id queue …\n… email greet", "id\tqueue\tactor\n01a2\temail   greet\n")
    assert not fits("id queue", "id actor")
    assert list(commands("$ a \\\n  b\nsaid\n$ c\n")) == [("a   b", "said\n"), ("c", "")]


# -- names


def spans() -> Iterator[tuple[str, str]]:
    """Where, and what: every code span, and every line of a block that is not Python."""
    for page in PAGES:
        for span in re.finditer(r"(?<!`)`([^`]+)`(?!`)", prose(page)):
            yield name(page), " ".join(span[1].split())
        indented = re.findall(r"^ {4,}(\S.*)$", prose(page), flags=re.M)
        yield from ((name(page), line) for line in indented)
    for block in BLOCKS:
        if block.language == "console":
            yield from ((str(block), command) for command, _ in commands(block.text))


def typed(program: str) -> list[tuple[str, list[str]]]:
    """Where, and with which words, this program is called, a leading environment aside."""
    found = []
    for where, text in spans():
        text = re.sub(r"^(\w+=\S+ +)+", "", re.split(r"\s#\s| > ", text)[0])
        if re.match(rf"{program} [a-z-]", text) and "OPTIONS" not in text and "…" not in text:
            found.append((where, shlex.split(text)[1:]))
    return found


def wrong(words: list[str]) -> str:
    """What of these words the command line does not know."""
    command: Any = get_command(main)
    options = {"--help", "-h", "--version"}
    for word in words:
        if word.startswith("-"):
            known = options | {
                option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)
            }
            if word.partition("=")[0] not in known:
                return f"{command.name} has no option {word}"
        elif hasattr(command, "commands"):
            if word not in command.commands:
                return f"{command.name} has no command {word}"
            command = command.commands[word]
    return ""


def test_every_command_exists() -> None:
    calls = typed("hareline")
    assert len(calls) > 40
    assert wrong(["jobs", "lst"])
    assert wrong(["jobs", "ls", "--sate", "x"])
    assert [(where, why) for where, words in calls if (why := wrong(words))] == []


def test_every_make_target_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.M))
    calls = typed("make")
    assert len(calls) > 5
    assert [(where, words[0]) for where, words in calls if words[0] not in targets] == []


def test_every_actor_that_is_enqueued_exists() -> None:
    made_here = set(re.findall(r"^def (\w+)\(", "\n".join(block.text for block in BLOCKS), flags=re.M))
    enqueued = {words[2] for _, words in typed("hareline") if words[:2] == ["jobs", "enqueue"] and words[2:]}
    assert enqueued
    assert enqueued - made_here - broker.actors.keys() == set()


def test_every_setting_exists() -> None:
    known = {*VARIABLES.values(), "HARELINE_FAILPOINTS", "HARELINE_TEST_RABBITMQ"}
    known |= {"HARELINE_TEST_ITEMS", "HARELINE_TEST_ROADS"}
    fields = {field.upper() for field in QueueSettings.model_fields}
    known |= {"HARELINE_QUEUES__"} | {
        f"HARELINE_QUEUES__{queue.upper().replace('-', '_')}__{field}" for queue in CATALOGUE for field in fields
    }
    text = "\n".join(page.read_text() for page in PAGES)
    assert set(re.findall(r"\bHARELINE_[A-Z_]+", text)) - known == set()
    assert set(re.findall(r"\b(?:WORKER|AUDIT|POSTHOG)_[A-Z_]+", text)) - known == set()


def test_every_source_file_exists() -> None:
    made_here = {path for block in BLOCKS if (path := block.named("file"))}
    there = {name(path) for path in files()} | made_here
    folders = {f"{name(folder)}/" for path in files() for folder in path.parents if folder.is_relative_to(ROOT)}
    missing = [
        (where, text)
        for where, text in spans()
        if re.fullmatch(r"[\w./-]+\.(py|json|sql|sh|yml)|\w[\w-]*(/[\w-]+)*/", text)
        and text not in folders
        and not any(f"/{path}".endswith(f"/{text}") for path in there)
    ]
    assert missing == []


def anchors(page: Path) -> set[str]:
    """What its headings can be linked by, as GitHub makes it."""
    headings = re.findall(r"^#+ (.*)$", prose(page), flags=re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    dead = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        path, _, anchor = target.partition("#")
        if re.match(r"https?://", target):
            continue
        linked = (page.parent / path).resolve() if path else page
        if not linked.exists() or (anchor and anchor not in anchors(linked)):
            dead.append(target)
    assert dead == []


def test_every_page_can_be_reached_from_the_index() -> None:
    index = ROOT / "docs/index.md"
    linked = {(index.parent / target).resolve() for target in re.findall(r"\]\(([^)#\s]+)\)", index.read_text())}
    assert [name(page) for page in PAGES if "docs" in page.parts and page not in linked | {index}] == []


# -- architecture


@pytest.mark.parametrize("page", ["docs/architecture.md", "CONTRIBUTING.md"])
def test_the_layers_are_those_the_test_proves(page: str) -> None:
    [text] = re.findall(r"^ *hareline_testing\n(?: *\S.*\n)+", (ROOT / page).read_text(), flags=re.M)
    assert [set(line.strip().split(" | ")) for line in text.splitlines() if line.strip(" `")] == list(ROWS)


def test_the_readme_shows_every_module_in_its_layer() -> None:
    text = (ROOT / "README.md").read_text()
    shown = [
        set(re.findall(r"(\w+)(?:\.py|/)(?=\s|$)", line))
        for line in text.splitlines()
        if re.match(r" {4}\w+(\.py|/)", line)
    ]
    assert shown == list(ROWS)


def test_threads_and_sessions_have_the_names_they_are_known_by() -> None:
    code = "\n".join(path.read_text() for path in ROOT.glob("*/*.py") if path.parent.name != "tests")
    lanes = {
        f"hareline-{lane}" for lane in re.findall(r'[lL]ane\("(\w+)"', code) + re.findall(r'Lane\(\s*"(\w+)"', code)
    }
    named = set(re.findall(r'"(hareline[ -][a-z]+)"', code)) | lanes
    page = (ROOT / "docs/architecture.md").read_text().partition("## Threads and connections")[2].partition("## ")[0]
    table = set(re.findall(r"\bhareline[ -][a-z]+", page))
    assert table - named == set()
    threads = set(re.findall(r'name="(hareline[ -][a-z]+)"', code)) | lanes
    assert threads - table - {"hareline-signals"} == set()  # that is the scheduler's


# -- guarantees


def test_every_test_that_is_named_exists() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", GUARANTEES)
    assert len(named) > 40
    assert len(set(named)) == len(named)
    there = {path: functions(ROOT / path) for path, _ in named}
    assert [f"{path}::{test}" for path, test in named if test not in there[path]] == []


def functions(path: Path) -> set[str]:
    if not path.exists():
        return set()
    return {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)}


def test_every_promise_has_tests_and_limits() -> None:
    promises = re.split(r"^## ", GUARANTEES, flags=re.M)[1:8]
    assert [promise.partition(".")[0] for promise in promises] == list("1234567")
    assert [
        promise.splitlines()[0] for promise in promises if "::" not in promise or "**Limits.**" not in promise
    ] == []


def test_the_failpoints_are_those_in_the_code() -> None:
    code = {path: path.read_text() for path in files() if path.suffix == ".py" and "tests" not in path.parts}
    hits = {
        point
        for path, text in code.items()
        if path.name != "failpoints.py"
        for point in re.findall(r'\bhit\("([\w.]+)"\)', text)
    }
    listed = re.findall(r"^\| `([\w.]+)` \|", GUARANTEES.partition("## Failpoints")[2], flags=re.M)
    assert sorted(listed) == sorted(hits)


# -- hygiene

# In halves, so that this file does not contain what it forbids.
REGISTRIES = re.compile(
    "|".join(("py" + r"pi\.org", "python" + r"hosted\.org", "npm" + r"js\.", "proxy.gol" + r"ang\.org"))
)
MACHINE = re.compile(r"(?<![\w.])/(?:wo" + r"rk|tmp/w)(?:/|\b(?=[\s\"'`:]))")
LEFT_OVER = re.compile(r"\b(?:TO" + "DO|FIX" + r"ME)\b")


@pytest.mark.parametrize(
    ("what", "never"), [("a registry", REGISTRIES), ("this machine", MACHINE), ("a left-over", LEFT_OVER)]
)
def test_no_file_names(what: str, never: re.Pattern[str]) -> None:
    found = []
    for path in files():
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        found += [f"{name(path)}: {match[0]!r} names {what}" for match in never.finditer(text)]
    assert found == []

"""The tutorial and the README, followed to the letter in a clone of the repository."""

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tests.documents import ROOT, Block, Play, blocks
from tests.program import environment

#: What a reader may do with the actor of the README that says everything.
REMINDED = (
    ("run", """$ hareline jobs enqueue remind --args '["Ada", "2026-07-01"]'\n…"""),
    ("until", "$ hareline jobs ls --actor remind --state completed\n…remind…"),
)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What a clone of the repository has, as it is now."""
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout.decode()
    for name in filter(None, names.split("\0")):
        if (ROOT / name).exists():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


@pytest.mark.timeout(480)
def test_the_tutorial_does_what_it_says(clone: Path, postgres_url: str, rabbitmq_url: str) -> None:
    env = environment(PYTHONPATH=str(clone), WORKER_COUNT="1")
    urls = {
        "postgresql://hareline:PASSWORD@127.0.0.1/hareline": postgres_url,
        "amqp://worker:PASSWORD@127.0.0.1/%2F": rabbitmq_url,
    }
    played = 0
    with Play(clone, env, urls) as play:
        for block in blocks(ROOT / "docs/tutorial.md"):
            played += bool(block.words)
            play.play(block)
    assert played > 15


@pytest.mark.timeout(300)
def test_the_example_of_the_readme_runs(clone: Path) -> None:
    [listing] = [block for block in blocks(ROOT / "docs/tutorial.md") if block.named("edit") == "actors/__init__.py"]
    greet, send, remind = (block for block in blocks(ROOT / "README.md") if block.language == "python")
    named = replace(listing, text=listing.text.replace("greetings", "greetings, reminders"))
    with Play(clone, environment(PYTHONPATH=str(clone))) as play:
        for block in (greet, remind, named):
            play.play(block)
        play.start("hareline worker -p 1")
        play.program.wait("worker.ready")
        assert play.play(send) == "Hello, Ada!\n"
        for how, text in REMINDED:
            play.play(Block(Path(__file__), 0, "console", (how,), text))

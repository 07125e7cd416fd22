"""Whatever the HTTP API can do, the command line can."""

from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from actors import broker
from cli import main
from control.commands import COMMANDS, EXEMPT
from dashboard.api.reference import page
from dashboard.app import build
from settings import Settings
from tests.program import ROOT


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    url = f"sqlite:///{tmp_path_factory.mktemp('api') / 'hareline.db'}"
    return build(Settings(database_url=url), broker=broker).openapi()


def operations(document: dict[str, Any]) -> set[str]:
    return {operation["operationId"] for path in document["paths"].values() for operation in path.values()}


def test_every_operation_has_a_command_or_a_reason_to_have_none(document: dict[str, Any]) -> None:
    found = operations(document)
    assert found - COMMANDS.keys() - EXEMPT.keys() == set()
    assert (COMMANDS.keys() | EXEMPT.keys()) - found == set()
    assert COMMANDS.keys() & EXEMPT.keys() == set()


def test_every_command_of_an_operation_exists() -> None:
    missing = []
    for words in COMMANDS.values():
        command: Any = get_command(main)
        for word in words.split():
            if word.startswith("--"):
                assert word in {option for parameter in command.params for option in parameter.opts}, words
                continue
            command = getattr(command, "commands", {}).get(word)
            if command is None:
                missing.append(words)
                break
    assert missing == []


def test_every_operation_says_what_it_does_and_what_may_go_wrong(document: dict[str, Any]) -> None:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            where = f"{method} {path}"
            assert operation["summary"], where
            assert operation["description"], where
            assert {"401", "403", "422", "503"} <= operation["responses"].keys(), where
            for status, response in operation["responses"].items():
                media = response["content"].keys()
                assert (media == {"application/problem+json"}) == (int(status) >= 400), f"{where} {status}"


def test_the_reference_is_made_from_the_document(document: dict[str, Any]) -> None:
    assert (ROOT / "docs/reference/api.md").read_text() == page(document)


def test_the_document_needs_no_database(document: dict[str, Any], tmp_path: Path) -> None:
    assert document["openapi"].startswith("3.1")
    assert list(tmp_path.iterdir()) == []

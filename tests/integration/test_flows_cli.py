"""``hareline flows``, on both databases."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from typer.testing import CliRunner, Result
from uuid_utils import uuid7

from cli import main
from cli.exits import Exit
from ledger.flows.graph import Graph, Kind, Node
from ledger.flows.store import NewFlow
from tests.ledger_under_test import LedgerUnderTest


@pytest.fixture
def flow(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A flow that waits for a signal, with a job beside."""
    monkeypatch.setenv("DATABASE_URL", database_url)
    ledger = LedgerUnderTest(database_url, "embedded")
    nodes = [
        Node("go", str(Kind.WAIT), signal="approved", delay_ms=60_000),
        Node("pay", str(Kind.RUN), {"go": "fail"}, actor="pay", queue="q"),
        Node("tell", str(Kind.RUN), actor="tell", queue="q"),
    ]
    id, _ = ledger.session.start_flow(NewFlow(str(uuid7()), Graph("expense", nodes), "e-1"))
    yield id
    ledger.close()


@pytest.fixture
def flows() -> Callable[..., Result]:
    def run(*words: str) -> Result:
        return CliRunner().invoke(main, ["flows", *words])

    return run


def answer(result: Result) -> Any:
    assert result.exit_code == Exit.OK, result.output
    return json.loads(result.stdout)


def test_a_flow_is_listed_and_shown_with_its_steps(flow: str, flows: Callable[..., Result]) -> None:
    [row] = answer(flows("ls", "--workflow", "expense", "--state", "running", "--json"))
    assert (row["id"], row["key"], row["progress"]) == (flow, "e-1", {"done": 0, "total": 3})
    assert answer(flows("ls", "--state", "failed", "--json")) == []
    shown = flows("show", flow[:13]).stdout.splitlines()
    assert shown[0].startswith(f"{flow} expense (version ")
    assert shown[0].endswith("is running: 0 of 3 done")
    assert [line.split("\t")[:2] for line in shown[1:]] == [
        ["step", "state"],
        ["go", "running"],
        ["  pay", "waiting"],
        ["tell", "running"],
    ]
    assert "(due 20" in shown[2]
    [go, pay, tell] = answer(flows("show", flow, "--json"))["steps"]
    assert (go["job"], pay["after"], tell["jobs"]) == (None, ["go"], 1)


def test_a_signal_counts_once_and_one_nobody_waits_for_is_refused(flow: str, flows: Callable[..., Result]) -> None:
    assert flows("signal", flow, "aproved").exit_code == Exit.NOT_FOUND
    assert flows("signal", flow, "approved", "--data", "{").exit_code == Exit.USAGE
    assert answer(flows("signal", flow, "approved", "--data", '{"by": "Ada"}', "--json")) is True
    again = flows("signal", flow, "approved")
    assert (again.exit_code, "the first one counts" in again.output) == (Exit.ILLEGAL, True)
    assert [step["state"] for step in answer(flows("show", flow, "--json"))["steps"]] == [
        "completed",
        "running",
        "running",
    ]


def test_a_flow_is_cancelled_and_retried(flow: str, flows: Callable[..., Result]) -> None:
    assert flows("retry", flow).exit_code == Exit.ILLEGAL
    assert flows("cancel", flow).stdout == f"{flow} is cancelled\n"
    assert flows("cancel", flow).exit_code == Exit.ILLEGAL
    assert answer(flows("retry", flow, "--json")) == ["go", "pay", "tell"]
    assert answer(flows("ls", "--json"))[0]["state"] == "running"


def test_a_flow_nobody_knows_is_not_found(flow: str, flows: Callable[..., Result]) -> None:
    for words in (["show"], ["cancel"], ["retry"], ["signal"]):
        more = ["approved"] if words == ["signal"] else []
        assert flows(*words, "00000000-0000", *more).exit_code == Exit.NOT_FOUND

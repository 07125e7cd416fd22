"""Tools that models may use, and named workflows."""

from typing import Any

import pytest

from actors import inbox
from actors.tools import TOOLS, Tool, ToolCall, described, execute_tool
from actors.vectors import Entity, nearest
from actors.workflows import queue_workflow
from errors import Failure
from hareline_testing import Hareline
from ledger.states import State
from tests.scripted import OpenAIServer
from tests.scripted import vector_of as vector


def run(id: str, tool: str, **arguments: Any) -> dict[str, Any]:
    return execute_tool.fn(ToolCall(id=id, tool=tool, arguments=arguments)).model_dump(exclude_none=True)


def test_a_tool_is_run_once_per_call(actors_here: Any) -> None:
    assert run("c1", "calculate", expression="2 * (3 + 4.5)") == {"ok": True, "result": 15.0}
    assert run("c1", "calculate", expression="1 + 1") == {"ok": True, "result": 15.0}, "the first outcome is kept"
    moment = {"at": "2026-07-01T12:00:00Z", "timezone": "Asia/Tokyo"}
    assert run("c2", "local_time", **moment) == {"ok": True, "result": "2026-07-01T21:00:00+09:00"}


@pytest.mark.parametrize(
    "expression",
    ["__import__('os')", "2 ** 99999999", "x", "1/0", "(" * 400, "", "True", "'a' * 9", "1e999"],
)
def test_what_cannot_be_calculated_is_an_outcome_the_model_can_read(kit: Hareline, expression: str) -> None:
    outcome = run("c1", "calculate", expression=expression)
    assert not outcome["ok"]
    assert outcome["error"]


def test_an_outcome_that_no_database_takes_is_kept(actors_here: pytest.MonkeyPatch) -> None:
    page = Tool("page", "", TOOLS["calculate"].arguments, lambda given: {"a\0": ["b\0"]})
    actors_here.setitem(TOOLS, "page", page)
    kept = {"a\N{REPLACEMENT CHARACTER}": ["b\N{REPLACEMENT CHARACTER}"]}
    assert run("c1", "page", expression="") == {"ok": True, "result": kept}


def test_arguments_that_do_not_fit_are_an_outcome_and_an_unknown_tool_is_a_dead_letter(kit: Hareline) -> None:
    assert run("c1", "local_time", at="noon") == {
        "ok": False,
        "error": "at: Input should be a valid datetime or date, input is too short; timezone: Field required",
    }
    with pytest.raises(Failure, match="there is no tool 'rm'; there are calculate, local_time"):
        run("c2", "rm")


def test_a_tool_that_breaks_is_tried_again(kit: Hareline, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = iter([ConnectionError("away"), None])

    def fragile(given: Any) -> str:
        if (error := next(broken)) is not None:
            raise error
        return "back"

    monkeypatch.setitem(TOOLS, "fragile", Tool("fragile", "", TOOLS["calculate"].arguments, fragile))
    sent = execute_tool.send(ToolCall(id="c1", tool="fragile", arguments={"expression": "1"}))
    job = kit.wait_for(sent, raises=False)
    assert (job.state, job.attempts_spent) == (State.COMPLETED, 2)


def test_tools_are_described_as_models_are_told_of_them() -> None:
    [calculate, _] = described()
    assert calculate["function"]["name"] == "calculate"
    assert calculate["function"]["description"] == "Calculate an arithmetic expression."
    assert calculate["function"]["parameters"]["required"] == ["expression"]


def test_a_named_workflow_runs_to_its_end_and_a_second_time_changes_nothing(
    kit: Hareline, openai_server: OpenAIServer
) -> None:
    account = {"account": {"user": "ada", "email": "ada@example.org"}}
    first = queue_workflow("user_onboarding", account, key="ada")
    kit.drain()
    second = queue_workflow("user_onboarding", account, key="ada")
    kit.drain()

    assert first.result(timeout=0) == second.result(timeout=0)
    assert {str(job.state) for job in kit.jobs()} == {"completed"}
    assert inbox.account("ada") == inbox.Account(user="ada", email="ada@example.org")
    assert len(openai_server.requests) == 1
    [(found, _)] = nearest("ada", vector("email: ada@example.org\nname: ada"), model="text-embedding-3-small")
    assert found == Entity(user="ada", type="person", id="ada")


def test_a_workflow_that_is_not_there_or_given_something_else_is_a_dead_letter(kit: Hareline) -> None:
    for name, given, words in (
        ("onbording", {}, "there is no workflow 'onbording'; there are user_onboarding"),
        ("user_onboarding", {"acount": 1}, "'account' is missing"),
    ):
        job = kit.wait_for(queue_workflow(name, given), raises=False)
        assert job.state is State.FAILED
        assert words in str(job.attempts[-1].error_message)

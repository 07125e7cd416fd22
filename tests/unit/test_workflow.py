"""What a workflow may look like, and what is refused where it is declared."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dramatiq
import pytest

from broker import Broker, build
from errors import InvalidWorkflow
from ledger.flows.graph import parse
from middleware.workflow import Spec, Workflow, sleep, step, wait, workflow
from settings import Settings


@pytest.fixture
def broker(tmp_path: Path) -> Broker:
    return build(Settings(database_url=f"sqlite:///{tmp_path / 'hareline.db'}"))


def actors(broker: Broker) -> Any:
    def create(user_id: int) -> str:
        return ""

    def welcome(create: str, greeting: str = "Hello") -> None: ...

    def load(contact: str, create: str) -> int:
        return 0

    def summarise(welcome: None, load: list[int]) -> None: ...

    def undo(create: str) -> None: ...

    def alone() -> None: ...

    functions: list[Callable[..., Any]] = [create, welcome, load, summarise, undo, alone]
    guarded = dramatiq.actor(broker=broker, actor_name="guarded", allowed_producers={"billing"})(alone)
    in_line = dramatiq.actor(broker=broker, actor_name="in_line", sequence="contact")(load)
    secret = dramatiq.actor(broker=broker, actor_name="secret", sensitive=True)(alone)
    found = {fn.__name__: dramatiq.actor(broker=broker, queue_name="q")(fn) for fn in functions}
    return SimpleNamespace(**found, guarded=guarded, secret=secret, in_line=in_line)


@pytest.fixture
def a(broker: Broker) -> Any:
    return actors(broker)


@pytest.fixture
def onboarding(a: Any) -> Workflow:
    return workflow("onboarding").then(a.create).then(a.welcome, step(a.load, each="contacts")).then(a.summarise)


def after(flow: Workflow) -> dict[str, list[str]]:
    return {node.name: list(node.after) for node in flow.graph.forward}


def test_steps_of_one_then_run_side_by_side_and_the_next_waits_for_all_of_them(onboarding: Workflow) -> None:
    assert after(onboarding) == {
        "create": [],
        "welcome": ["create"],
        "load": ["create"],
        "summarise": ["welcome", "load"],
    }


def test_arguments_are_what_no_step_fills(onboarding: Workflow) -> None:
    assert onboarding.arguments == {"user_id": True, "contacts": True, "greeting": False}


def test_a_parameter_is_filled_by_the_step_of_its_name_or_the_one_it_is_told(a: Any) -> None:
    flow = workflow("w").then(step(a.create, name="account")).then(step(a.welcome, takes={"create": "account"}))
    assert flow.graph.nodes["welcome"].takes == {
        "create": ("result", "account"),
        "greeting": ("argument", "greeting"),
    }


def test_each_item_goes_to_the_first_parameter_and_the_join_gets_all_results(onboarding: Workflow) -> None:
    nodes = onboarding.graph.nodes
    assert nodes["load"].each == ("contact", "contacts")
    assert nodes["load"].takes == {"create": ("result", "create")}
    assert nodes["summarise"].takes["load"] == ("results", "load")


def test_a_step_may_wait_for_others_than_the_last(a: Any) -> None:
    flow = workflow("w").then(a.create).then(a.welcome).then(step(a.undo, after="create"), step(a.alone, after=()))
    assert after(flow) == {"create": [], "welcome": ["create"], "undo": ["create"], "alone": []}


def test_failures_fail_the_flow_unless_a_step_can_be_undone_or_says_otherwise(a: Any) -> None:
    plain = workflow("w").then(step(a.create, on_failure="continue")).then(a.welcome)
    assert plain.graph.policies == {"create": {"continue"}, "welcome": {"fail"}}
    undone = workflow("w").then(step(a.create, compensate=a.undo)).then(step(a.welcome, after={"create": "fail"}))
    assert undone.graph.policies == {"create": {"fail"}, "welcome": {"compensate"}}
    assert undone.graph.undoing["create"].takes == {"create": ("result", "create")}


def test_a_definition_is_the_same_read_back_and_its_version_says_so(onboarding: Workflow, a: Any) -> None:
    graph = onboarding.graph
    assert parse(graph.name, graph.body).version == graph.version
    assert onboarding.then(a.alone).graph.version != graph.version
    again = workflow("onboarding").then(a.create).then(a.welcome, step(a.load, each="contacts")).then(a.summarise)
    assert again.graph.version == graph.version


REFUSED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "a circle": (
        lambda a: workflow("w").then(
            a.create,
            step(a.alone, name="x", after="z"),
            step(a.alone, name="y", after="x"),
            step(a.alone, name="z", after="y"),
        ),
        "its steps wait for each other: x after z after y after x",
    ),
    "a step after itself": (lambda a: workflow("w").then(step(a.alone, after="alone")), "alone after alone"),
    "an unknown step": (
        lambda a: workflow("w").then(a.create).then(step(a.alone, after="creat")),
        "step 'alone' waits for 'creat', which is no step; the nearest is 'create'",
    ),
    "a name used twice": (lambda a: workflow("w").then(a.alone).then(a.alone), "two steps are named 'alone'"),
    "a result of a step beside it": (
        lambda a: workflow("w").then(a.create, a.undo),
        "step 'undo' takes the result of 'create', which is not before it",
    ),
    "an item of a step beside it": (
        lambda a: workflow("w").then(a.create, step(a.load, each="create", takes={"create": "x"})),
        "'load' is for each of what 'create' returns, which is not before it",
    ),
    "each of many": (
        lambda a: workflow("w")
        .then(step(a.create, each="ids"))
        .then(step(a.load, each="create", takes={"create": "x"})),
        "has many results",
    ),
    "a condition on many": (
        lambda a: workflow("w").then(step(a.create, each="ids")).then(step(a.alone, when="create")),
        "depends on 'create', which has many results",
    ),
    "when and unless": (
        lambda a: workflow("w").then(a.create).then(step(a.alone, when="create", unless="create")),
        "when and unless; leave one",
    ),
    "a policy nobody knows": (
        lambda a: workflow("w").then(step(a.alone, on_failure="ignore")),  # type: ignore[arg-type]
        "'fail', 'continue', 'compensate', got 'ignore'",
    ),
    "a parameter nobody has": (
        lambda a: workflow("w").then(step(a.create, takes={"user": "id"})),
        "takes 'user', which its actor has not; the nearest is 'user_id'",
    ),
    "an argument named as a step": (
        lambda a: workflow("w").then(a.undo).then(step(a.create, name="welcome")).then(step(a.alone, name="create")),
        "which is not before it",
    ),
    "an argument called key": (
        lambda a: workflow("w").then(step(a.create, takes={"user_id": "key"})),
        "an argument cannot be called 'key'",
    ),
    "no parameter for the item": (lambda a: workflow("w").then(step(a.alone, each="x")), "no parameter for it"),
    "a secret": (lambda a: workflow("w").then(a.secret), "has secret arguments"),
    "an actor of few": (lambda a: workflow("w").then(a.guarded), "names its allowed_producers"),
    "an actor with a sequence": (lambda a: workflow("w").then(a.in_line), "has a sequence"),
    "no step": (lambda a: workflow("w").then(), "at least one step"),
    "a function": (lambda a: step(print), "a step runs an actor"),  # type: ignore[arg-type]
    "a name with spaces": (lambda a: workflow("my flow"), "got 'my flow'"),
    "a step's name with spaces": (lambda a: workflow("w").then(step(a.alone, name="a b")), "got 'a b'"),
    "a duration nobody knows": (lambda a: sleep("2 fortnights"), "write for example 500ms"),
    "a negative one": (lambda a: wait("go", timeout=-1), "at least 0"),
    "one of centuries": (lambda a: sleep("99999999d"), "more than a hundred years"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_refused_where_it_is_declared(a: Any, what: str) -> None:
    declare, why = REFUSED[what]
    with pytest.raises(InvalidWorkflow) as error:
        declare(a)
    assert why in str(error.value)


def test_start_names_what_is_missing_and_what_it_does_not_take(onboarding: Workflow) -> None:
    with pytest.raises(InvalidWorkflow) as error:
        onboarding.start(contacts=[], user=7)
    assert "'user_id' is missing" in str(error.value)
    assert "'user' is no argument of it; the nearest is 'user_id'" in str(error.value)
    with pytest.raises(InvalidWorkflow, match="cannot be written as JSON"):
        onboarding.start(user_id=object(), contacts=[])


def test_a_workflow_never_changes(a: Any) -> None:
    first = workflow("w").then(a.create)
    first.then(a.welcome)
    assert list(first.graph.nodes) == ["create"]


def test_sleeps_and_waits_have_names_of_their_own() -> None:
    assert [sleep("2d").name, wait("go").name, wait("go", name="second").name] == ["sleep-2d", "go", "second"]
    assert isinstance(wait("go"), Spec)

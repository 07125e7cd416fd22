"""The pure function that decides what a flow does next, held to a model that knows no order of events."""

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ledger.flows.advance import advance
from ledger.flows.graph import Graph, Kind, Node, Policy
from ledger.flows.states import ENDED, OVER, FlowState, Step, StepState

POLICIES = st.sampled_from([str(policy) for policy in Policy])


@st.composite
def graphs(draw: Any) -> Graph:
    """Up to seven steps; each may wait for any before it, hang on one of those, or be undone."""
    nodes: list[Node] = []
    for number in range(draw(st.integers(1, 7))):
        names = [node.name for node in nodes]
        after = {name: draw(POLICIES) for name in names if draw(st.booleans())}
        when = draw(st.sampled_from([None, *after]))
        kind = draw(st.sampled_from([Kind.RUN, Kind.RUN, Kind.WAIT, Kind.SLEEP]))
        nodes.append(Node(f"s{number}", str(kind), after, draw(POLICIES), when=when, holds=draw(st.booleans())))
    undone = [node.name for node in nodes if draw(st.booleans())]
    return Graph("g", [*nodes, *(Node(f"undo {name}", str(Kind.UNDO), undoes=name) for name in undone)])


def expected(graph: Graph, fails: set[str], true: set[str]) -> dict[str, StepState]:
    """What becomes of every step when nothing stops the flow, by recursion over those before it."""
    found: dict[str, StepState] = {}
    for node in graph.forward:
        truth = node.when is not None and found[node.when] is StepState.COMPLETED and node.when in true
        if node.when is not None and truth is not node.holds:
            found[node.name] = StepState.SKIPPED
        else:
            found[node.name] = StepState.FAILED if node.name in fails else StepState.COMPLETED
    return found


class FlowMachine(RuleBasedStateMachine):
    """Steps end in any order, with any outcome; it may be cancelled at any time."""

    @initialize(graph=graphs(), fails=st.sets(st.integers(0, 6)), true=st.sets(st.integers(0, 6)))
    def start(self, graph: Graph, fails: set[int], true: set[int]) -> None:
        self.graph = graph
        self.fails = {f"s{number}" for number in fails}
        self.true = {f"s{number}" for number in true}
        self.steps = {name: Step(name) for name in graph.nodes}
        self.state = FlowState.RUNNING
        self.began: list[str] = []
        self.cancelled = False
        self.go_on()

    def go_on(self) -> None:
        moves = advance(self.graph, self.state, self.steps)
        assert advance(self.graph, self.state, self.steps) == moves, "pure"
        before, self.state = self.state, moves.state
        for name in moves.begin:
            assert self.steps[name].state is StepState.WAITING, "a step begins once"
            assert before not in (FlowState.CANCELLING, FlowState.CANCELLED)
            self.began.append(name)
            self.steps[name].state = StepState.RUNNING
        for name in moves.skip:
            assert self.steps[name].state is StepState.WAITING
            self.steps[name].state = StepState.SKIPPED
        for name in moves.cancel:
            assert self.steps[name].state in (StepState.WAITING, StepState.RUNNING)
            self.steps[name].state = StepState.CANCELLED

    def running(self) -> list[str]:
        return sorted(name for name, step in self.steps.items() if step.state is StepState.RUNNING)

    def stops(self) -> set[str]:
        failed = {n.name for n in self.graph.forward if self.steps[n.name].state is StepState.FAILED}
        return {policy for name in failed for policy in self.graph.policies[name]} - {Policy.CONTINUE}

    @precondition(lambda self: self.running())
    @rule(pick=st.integers(0, 100))
    def end_one(self, pick: int) -> None:
        name = self.running()[pick % len(self.running())]
        step = self.steps[name]
        step.state = StepState.FAILED if name in self.fails else StepState.COMPLETED
        step.truth = name in self.true if step.state is StepState.COMPLETED else None
        self.go_on()

    @precondition(lambda self: self.state in (FlowState.RUNNING, FlowState.FAILING))
    @rule()
    def cancel(self) -> None:
        self.cancelled = True
        self.state = FlowState.CANCELLING
        self.go_on()

    @rule()
    def ask_again(self) -> None:
        moves = advance(self.graph, self.state, self.steps)
        assert (moves.state, moves.begin, moves.skip, moves.cancel) == (self.state, (), (), ()), "it was done at once"

    @invariant()
    def is_never_stuck(self) -> None:
        assert self.running() or self.state in OVER, "either something runs or it is over"

    @invariant()
    def begins_only_what_may_begin(self) -> None:
        for node in self.graph.forward:
            if self.steps[node.name].state in (StepState.RUNNING, StepState.COMPLETED, StepState.FAILED):
                for parent, policy in node.after.items():
                    now = self.steps[parent].state
                    assert now in ENDED
                    assert now is not StepState.FAILED or policy == Policy.CONTINUE

    @invariant()
    def undoes_one_at_a_time_the_last_first_and_only_when_asked_to(self) -> None:
        undone = [self.graph.nodes[name].undoes for name in self.began if name.startswith("undo ")]
        if undone:
            assert Policy.COMPENSATE in self.stops()
            assert not self.cancelled
        order = [node.name for node in self.graph.forward]
        places = [order.index(str(name)) for name in undone]
        assert places == sorted(places, reverse=True)
        assert sum(name.startswith("undo ") for name in self.running()) <= 1

    @invariant()
    def ends_as_the_model_says(self) -> None:
        if self.state not in OVER:
            return
        now = {node.name: self.steps[node.name].state for node in self.graph.forward}
        assert all(state in ENDED for state in now.values())
        if self.cancelled:
            assert self.state is FlowState.CANCELLED
        elif self.stops():
            assert self.state is FlowState.FAILED
            if Policy.COMPENSATE in self.stops():
                for name, undo in self.graph.undoing.items():
                    due = now[str(name)] in (StepState.COMPLETED, StepState.FAILED)
                    assert (self.steps[undo.name].state in ENDED) is due
        else:
            assert self.state is FlowState.COMPLETED
            assert now == expected(self.graph, self.fails, self.true)


FlowMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=20, deadline=None)
TestAFlow = FlowMachine.TestCase

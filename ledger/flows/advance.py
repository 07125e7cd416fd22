"""Given where its steps stand, what a flow does next.  Pure, and asked anew after every change."""

from collections.abc import Mapping
from dataclasses import dataclass

from ledger.flows.graph import Graph, Kind, Policy
from ledger.flows.states import ENDED, OVER, FlowState, Step, StepState


@dataclass(frozen=True, slots=True)
class Moves:
    """What is to happen now; ``state`` is the flow's, once it has."""

    state: FlowState
    begin: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    cancel: tuple[str, ...] = ()


def advance(graph: Graph, state: FlowState, steps: Mapping[str, Step]) -> Moves:
    """A step begins once those before it have ended, unless a failure among them stops the flow."""
    if state in OVER:
        return Moves(state)
    stops = {
        policy
        for node in graph.forward
        if steps[node.name].state is StepState.FAILED
        for policy in graph.policies[node.name]
        if policy != Policy.CONTINUE
    }
    if state is FlowState.RUNNING and not stops:
        return _forward(graph, steps)
    if state is FlowState.COMPENSATING:
        return _undo(graph, steps, ())
    return _wind_up(graph, FlowState.FAILING if state is FlowState.RUNNING else state, steps, stops)


def _forward(graph: Graph, steps: Mapping[str, Step]) -> Moves:
    now = {node.name: steps[node.name].state for node in graph.forward}
    begin: list[str] = []
    skip: list[str] = []
    for node in graph.forward:
        if now[node.name] is not StepState.WAITING or any(now[parent] not in ENDED for parent in node.after):
            continue
        if node.when is not None and bool(steps[node.when].truth) is not node.holds:
            skip.append(node.name)
            now[node.name] = StepState.SKIPPED
        else:
            begin.append(node.name)
    over = all(state in ENDED for state in now.values())
    return Moves(FlowState.COMPLETED if over else FlowState.RUNNING, tuple(begin), tuple(skip))


def _wind_up(graph: Graph, state: FlowState, steps: Mapping[str, Step], stops: set[str]) -> Moves:
    """Nothing begins; what has no job is not waited for."""
    idle = (Kind.WAIT, Kind.SLEEP)
    cancel = tuple(
        node.name
        for node in graph.forward
        if (now := steps[node.name].state) is StepState.WAITING or (now is StepState.RUNNING and node.kind in idle)
    )
    if any(steps[node.name].state is StepState.RUNNING and node.name not in cancel for node in graph.forward):
        return Moves(state, cancel=cancel)
    if state is FlowState.CANCELLING:
        return Moves(FlowState.CANCELLED, cancel=cancel)
    if Policy.COMPENSATE in stops:
        return _undo(graph, steps, cancel)
    return Moves(FlowState.FAILED, cancel=cancel)


def _undo(graph: Graph, steps: Mapping[str, Step], cancel: tuple[str, ...]) -> Moves:
    """One after the other, the last step first; an undo that fails does not keep the others from it."""
    for node in reversed(graph.forward):
        undo = graph.undoing.get(node.name)
        if undo is None or steps[node.name].state not in (StepState.COMPLETED, StepState.FAILED):
            continue
        if steps[undo.name].state is StepState.WAITING:
            return Moves(FlowState.COMPENSATING, begin=(undo.name,), cancel=cancel)
        if steps[undo.name].state is StepState.RUNNING:
            return Moves(FlowState.COMPENSATING, cancel=cancel)
    return Moves(FlowState.FAILED, cancel=cancel)

"""What happens to a flow in one transaction, the same for every database.

Each function locks the flow's row first, so that of everything that happens to a flow at once one is the first; what
it answers are the jobs to be recorded in the same transaction.
"""

import json
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from uuid_utils import uuid7

from errors import FlowNotFound, IllegalTransition, UnknownSignal
from ledger.flows.advance import advance
from ledger.flows.graph import Graph, Kind, Node, Policy
from ledger.flows.states import OPTION, OVER, FlowState, ItemState, Step, StepEnd, StepState
from ledger.flows.store import FlowStore, Locked, NewFlow
from ledger.records import Finish, Finished, NewJob
from ledger.states import State
from ledger.who import By

#: (job, the state it ended in, the step it is)
End = tuple[str, str, StepEnd]
#: How the state of its job ends an item; a job that is gone was removed by somebody.
_ITEM = {State.COMPLETED: ItemState.COMPLETED, State.CANCELLED: ItemState.CANCELLED}


def start(store: FlowStore, new: NewFlow) -> tuple[str, list[NewJob]]:
    """The id of the flow, which is another when one of the same key is there; then nothing is recorded."""
    id = store.add(new)
    flow = store.lock(id)
    assert flow is not None
    if id != new.id or any(step.state is not StepState.WAITING for step in store.steps(id).values()):
        return id, []
    return id, _go_on(store, flow)


def settle(store: FlowStore, id: str, ends: Sequence[End]) -> list[NewJob]:
    """(job, state, step) have ended.  A job is counted once: while it is the live one of its item."""
    flow = store.lock(id)
    if flow is None:
        return []
    by_state: dict[ItemState, list[str]] = {}
    for job, state, _ in ends:
        by_state.setdefault(_ITEM.get(State(state), ItemState.FAILED), []).append(job)
    live: dict[str, ItemState] = {}
    for item_state, jobs in by_state.items():
        live |= dict.fromkeys(store.end(jobs, item_state), item_state)
    counted = [(live[job], step) for job, _, step in ends if job in live]
    done = [step for state, step in counted if state is ItemState.COMPLETED]
    store.keep(id, [(step.step, step.item, step.result) for step in done if step.result is not None])
    failed = Counter(step.step for state, step in counted if state is not ItemState.COMPLETED)
    truths = {step.step: step.truth for step in done}
    ended = False
    for name, count in sorted(Counter(step.step for _, step in counted).items()):
        ended |= store.tally(id, name, count, failed[name], truths.get(name)) == 0
    return _go_on(store, flow) if ended else []


def signal(store: FlowStore, id: str, name: str, body: bytes, by: By) -> tuple[bool, list[NewJob]]:
    """Whether it is the first of its name: others change nothing.  It is kept for a wait that has not begun."""
    flow = _demand(store, id)
    graph = store.graph(flow)
    known = sorted({node.signal for node in graph.forward if node.signal is not None})
    if name not in known:
        there = f"there are: {', '.join(known)}" if known else "it waits for none"
        raise UnknownSignal(f"workflow {flow.name!r} does not wait for a signal {name!r}; {there}")
    if flow.state in OVER or store.value(id, _signal(name)) is not None:
        return False, []
    store.keep(id, [(_signal(name), 0, body)])
    store.note("flow signalled", by, {"flow": id, "workflow": flow.name, "signal": name})
    steps = store.steps(id)
    for node in graph.forward:
        if node.signal == name and steps[node.name].state is StepState.RUNNING:
            _received(store, id, steps[node.name], body)
            store.write(id, [steps[node.name]])
    return True, _go_on(store, flow)


def wake(store: FlowStore, limit: int) -> list[NewJob]:
    """Let flows go on whose sleep is over, or whose wait has lasted too long."""
    new: list[NewJob] = []
    for id in sorted(store.due(limit)):
        flow = store.lock(id)
        if flow is None:
            continue
        graph = store.graph(flow)
        for step in store.steps(id).values():
            if step.due and step.state is StepState.RUNNING:
                if graph.nodes[step.name].kind == Kind.SLEEP:
                    step.state = StepState.COMPLETED
                else:
                    step.state, step.error = StepState.FAILED, "no signal came in time"
                store.write(id, [step])
        new += _go_on(store, flow)
    return new


def reconcile(store: FlowStore, limit: int) -> list[NewJob]:
    """Settle what ended without a finish: cancelled by an operator, expired, quarantined, removed."""
    found: dict[str, list[End]] = {}
    for flow, step, item, job, state in store.lost(limit):
        found.setdefault(flow, []).append((job, state, StepEnd(flow, step, item)))
    return [job for flow in sorted(found) for job in settle(store, flow, found[flow])]


def cancel(store: FlowStore, id: str, by: By) -> tuple[FlowState, list[NewJob]]:
    """Stop everything: at once what has not started, as soon as it lets itself be stopped what runs."""
    store.lock_jobs(id)
    flow = _demand(store, id)
    if flow.state in OVER or flow.state is FlowState.COMPENSATING:
        what = "is being undone" if flow.state is FlowState.COMPENSATING else "is over"
        raise IllegalTransition(f"flow {id} is {flow.state}: it {what}; there is nothing to cancel")
    store.move(id, FlowState.CANCELLING)
    stopped = store.cancel_jobs(id, by)
    store.end([job for _, job in stopped], ItemState.CANCELLED)
    for name, count in sorted(Counter(name for name, _ in stopped).items()):
        store.tally(id, name, count, count, None)
    store.note("flow cancelled", by, {"flow": id, "workflow": flow.name, "jobs": len(stopped)})
    new = _go_on(store, Locked(id, flow.name, flow.version, FlowState.CANCELLING))
    again = store.lock(id)
    assert again is not None
    return again.state, new


def retry(store: FlowStore, id: str, by: By) -> tuple[list[str], list[NewJob]]:
    """New jobs for what failed or was cancelled, steps that are answered; what completed is kept."""
    flow = _demand(store, id)
    graph, steps = store.graph(flow), store.steps(id)
    if flow.state not in (FlowState.FAILED, FlowState.CANCELLED):
        raise IllegalTransition(f"flow {id} is {flow.state}: only one that failed or was cancelled can be retried")
    undone = [node.undoes for node in graph.undoing.values() if steps[node.name].state is not StepState.WAITING]
    if undone:
        raise IllegalTransition(f"flow {id} was undone (steps {', '.join(map(str, undone))}); start a new one")
    new: list[NewJob] = []
    again: list[Step] = []
    for node in graph.forward:
        step = steps[node.name]
        if step.state not in (StepState.FAILED, StepState.CANCELLED) or graph.policies[node.name] == {Policy.CONTINUE}:
            continue
        items = store.items(id, node.name, completed=False) if step.jobs else []
        if items:
            new += _hire(store, id, node, step, items)
        else:
            step.state = StepState.WAITING
        step.failed, step.error = 0, None
        again.append(step)
    store.write(id, again)
    store.move(id, FlowState.RUNNING)
    store.note("flow retried", by, {"flow": id, "workflow": flow.name, "steps": [step.name for step in again]})
    new += _go_on(store, Locked(id, flow.name, flow.version, FlowState.RUNNING))
    return [step.name for step in again], new


def _demand(store: FlowStore, id: str) -> Locked:
    flow = store.lock(id)
    if flow is None:
        raise FlowNotFound(f"no flow {id!r}; `hareline flows ls` shows those there are")
    return flow


def _go_on(store: FlowStore, flow: Locked) -> list[NewJob]:
    graph, steps = store.graph(flow), store.steps(flow.id)
    new: list[NewJob] = []
    changed: dict[str, Step] = {}
    for step in steps.values():
        if step.state is StepState.RUNNING and step.jobs and not step.remaining:
            lost = StepState.CANCELLED if flow.state is FlowState.CANCELLING else StepState.FAILED
            step.state = lost if step.failed else StepState.COMPLETED
            changed[step.name] = step
    state = flow.state
    while True:
        moves = advance(graph, state, steps)
        state = moves.state
        for names, to in ((moves.skip, StepState.SKIPPED), (moves.cancel, StepState.CANCELLED)):
            for name in names:
                steps[name].state = to
        for name in moves.begin:
            new += _begin(store, flow.id, graph, graph.nodes[name], steps[name])
        changed |= {name: steps[name] for name in (*moves.skip, *moves.cancel, *moves.begin)}
        if all(steps[name].state is StepState.RUNNING for name in moves.begin):
            break
    store.write(flow.id, changed.values())
    if state is not flow.state:
        store.move(flow.id, state)
    return new


def _begin(store: FlowStore, flow: str, graph: Graph, node: Node, step: Step) -> list[NewJob]:
    """It runs, or has ended already: no item, no list, a signal that came before."""
    step.state, step.due_ms = StepState.RUNNING, node.delay_ms
    if node.signal is not None:
        if (body := store.value(flow, _signal(node.signal))) is not None:
            _received(store, flow, step, body)
        return []
    if node.kind == Kind.SLEEP:
        return []
    items: Sequence[int] = (0,)
    if node.undoes is not None:
        items = store.items(flow, node.undoes, completed=True)
    elif node.each is not None:
        found = _list(store, flow, node)
        if not isinstance(found, list):
            step.state, step.error = StepState.FAILED, f"{node.each[1]!r} is no list"
            return []
        items = range(len(found))
    if not items:
        step.state = StepState.COMPLETED
        return []
    return _hire(store, flow, node, step, items)


def _hire(store: FlowStore, flow: str, node: Node, step: Step, items: Sequence[int]) -> list[NewJob]:
    values = _list(store, flow, node) if node.each is not None else None
    jobs = [_job(flow, node, item, values) for item in items]
    store.hire(flow, node.name, [(item, job.id) for item, job in zip(items, jobs, strict=True)])
    step.state = StepState.RUNNING
    step.jobs, step.remaining = max(step.jobs, len(jobs)), len(jobs)
    return jobs


def _list(store: FlowStore, flow: str, node: Node) -> Any:
    """What an ``each`` step runs over; nothing, if the step that was to return it failed or was skipped."""
    assert node.each is not None
    body = store.value(flow, node.each[1])
    return [] if body is None else json.loads(body)


def _job(flow: str, node: Node, item: int, values: Sequence[Any] | None) -> NewJob:
    """Its message has the item; what else its actor takes is read when it runs, so no message is ever too large."""
    id = str(uuid7())
    option: dict[str, Any] = {"id": flow, "step": node.name, "item": item}
    if node.takes:
        option["takes"] = node.takes
    message = {
        "queue_name": node.queue,
        "actor_name": node.actor,
        "args": (),
        "kwargs": {node.each[0]: values[item]} if node.each is not None and values is not None else {},
        "options": {OPTION: option, "store_results": True},
        "message_id": id,
        "message_timestamp": int(time.time() * 1000),
    }
    body = json.dumps(message, separators=(",", ":")).encode()
    return NewJob(id, id, node.queue, node.actor, node.priority, body, producer=f"flow {flow}")


def _received(store: FlowStore, flow: str, step: Step, body: bytes) -> None:
    step.state, step.due_ms, step.truth = StepState.COMPLETED, None, bool(json.loads(body))
    store.keep(flow, [(step.name, 0, body)])


def _signal(name: str) -> str:
    """Under what a signal is kept: no argument and no step has a space in its name."""
    return f"signal {name}"


def ends_of(finished: Iterable[tuple[Finish, Finished | None]]) -> list[tuple[str, list[End]]]:
    """What the finishes of steps are to :func:`settle`: by flow, in the order in which flows are locked."""
    found: dict[str, list[End]] = {}
    for finish, answer in finished:
        assert finish.step is not None
        assert answer is not None
        assert answer.state is not None
        found.setdefault(finish.step.flow, []).append((finish.id, answer.state, finish.step))
    return sorted(found.items())

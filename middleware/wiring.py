"""Checks the steps of a workflow against each other, and makes its graph."""

import difflib
import inspect
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dramatiq import Actor

from errors import InvalidWorkflow
from ledger.flows.graph import Graph, Kind, Node, Policy, Source
from middleware.steps import Spec

#: Most steps of one workflow: each that ends looks at all of them.  For more of the same there is ``each``.
MAX_STEPS = 500


class Wiring:
    """Steps, what each waits for, and where the arguments of its actor come from.

    Parameters:
      stages: what each ``then()`` added.

    Making one, and :meth:`build`, raise ``InvalidWorkflow``.
    """

    def __init__(self, name: str, stages: Iterable[Sequence[Spec]]) -> None:
        self.name = name
        self.specs: dict[str, Spec] = {}
        self.parents: dict[str, dict[str, str | None]] = {}
        self.arguments: dict[str, bool] = {}
        stages = list(stages)
        for spec in (spec for stage in stages for spec in stage):
            self._add(spec)
        for stage in stages:
            self._connect(stage)

    def build(self) -> tuple[Graph, dict[str, bool]]:
        order = self._ordered()
        undoable = any(spec.compensate is not None for spec in self.specs.values())
        self.default = Policy.COMPENSATE if undoable else Policy.FAIL
        before: dict[str, set[str]] = {}
        nodes: list[Node] = []
        for name in order:
            parents = self.parents[name]
            before[name] = set(parents).union(*(before[parent] for parent in parents))
            nodes.append(self._node(self.specs[name], before[name]))
        nodes += [self._undo(self.specs[name], before[name]) for name in order if self.specs[name].compensate]
        for name in self.arguments:
            if name in self.specs:
                raise self._wrong(f"{name!r} is a step, and an argument of another: rename one of them")
        if "key" in self.arguments:
            raise self._wrong("an argument cannot be called 'key', which start() has for itself; use takes={…: …}")
        return Graph(self.name, nodes), self.arguments

    def _wrong(self, text: str) -> InvalidWorkflow:
        return InvalidWorkflow(f"workflow {self.name!r}: {text}")

    def _add(self, spec: Spec) -> None:
        if not re.fullmatch(r"[^\s]{1,100}", spec.name):
            raise self._wrong(f"a step is named by up to 100 characters without white space, got {spec.name!r}")
        if spec.name in self.specs:
            raise self._wrong(f"two steps are named {spec.name!r}; give one of them another, step(…, name=…)")
        if len(self.specs) >= MAX_STEPS:
            raise self._wrong(f"more than {MAX_STEPS} steps; run one for many items with step(…, each=…)")
        if spec.when is not None and spec.unless is not None:
            raise self._wrong(f"step {spec.name!r} has when and unless; leave one")
        if spec.on_failure is not None:
            self._policy(spec, spec.on_failure)
        self.specs[spec.name] = spec

    def _connect(self, stage: Sequence[Spec]) -> None:
        followed = {parent for parents in self.parents.values() for parent in parents}
        ends = [name for name in self.parents if name not in followed]
        connected: dict[str, dict[str, str | None]] = {}
        for spec in stage:
            after = spec.after
            named: dict[str, str | None]
            if after is None:
                named = dict.fromkeys(ends)
            elif isinstance(after, Mapping):
                named = {parent: self._policy(spec, policy) for parent, policy in after.items()}
            else:
                named = dict.fromkeys([after] if isinstance(after, str) else after)
            condition = spec.when or spec.unless
            if condition is not None:
                named.setdefault(condition, None)
            for parent in named:
                self._demand(spec, "waits for", parent)
            if condition is not None and self.specs[condition].each is not None:
                raise self._wrong(f"step {spec.name!r} depends on {condition!r}, which has many results; on which?")
            connected[spec.name] = named
        self.parents |= connected

    def _demand(self, spec: Spec, what: str, name: str) -> None:
        if name not in self.specs:
            raise self._wrong(f"step {spec.name!r} {what} {name!r}, which is no step; {nearest(name, self.specs)}")

    def _policy(self, spec: Spec, policy: str) -> str:
        if policy not in list(Policy):
            known = ", ".join(map(repr, map(str, Policy)))
            raise self._wrong(f"step {spec.name!r}: a failure does one of {known}, got {policy!r}")
        return str(policy)

    def _ordered(self) -> list[str]:
        """Every step after those it waits for, else as declared."""
        order: dict[str, None] = {}
        path: list[str] = []

        def visit(name: str) -> None:
            if name in order:
                return
            if name in path:
                circle = [*path[path.index(name) :], name]
                raise self._wrong(f"its steps wait for each other: {' after '.join(circle)}; break the circle")
            path.append(name)
            for parent in self.parents[name]:
                visit(parent)
            path.pop()
            order[name] = None

        for name in self.specs:
            visit(name)
        return list(order)

    def _node(self, spec: Spec, before: set[str]) -> Node:
        after = {
            parent: str(policy or self.specs[parent].on_failure or self.default)
            for parent, policy in self.parents[spec.name].items()
        }
        shared: dict[str, Any] = {
            "name": spec.name,
            "after": after,
            "at_end": str(spec.on_failure or self.default),
            "when": spec.when or spec.unless,
            "holds": spec.unless is None,
        }
        if spec.actor is None:
            kind = Kind.SLEEP if spec.signal is None else Kind.WAIT
            return Node(kind=str(kind), signal=spec.signal, delay_ms=spec.delay_ms, **shared)
        return Node(kind=str(Kind.RUN), **shared, **self._runs(spec, spec.actor, before))

    def _undo(self, spec: Spec, before: set[str]) -> Node:
        actor = spec.compensate
        if not isinstance(actor, Actor):
            raise self._wrong(f"step {spec.name!r}: compensate is an actor, got {actor!r}")
        runs = self._runs(spec, actor, before | {spec.name}, undo=True)
        return Node(f"undo {spec.name}", str(Kind.UNDO), undoes=spec.name, **runs)

    def _runs(self, spec: Spec, actor: Actor[Any, Any], before: set[str], *, undo: bool = False) -> dict[str, Any]:
        """Which actor, and where its arguments come from."""
        who = f"step {spec.name!r}" + (f", undone by {actor.actor_name!r}," if undo else "")
        self._refuse_guarded(who, actor)
        parameters = {
            x.name: x
            for x in inspect.signature(inspect.unwrap(actor.fn)).parameters.values()
            if x.kind not in (x.VAR_POSITIONAL, x.VAR_KEYWORD)
        }
        takes = dict(spec.takes or {})
        for name in takes:
            if name not in parameters and not undo:
                raise self._wrong(f"{who} takes {name!r}, which its actor has not; {nearest(name, parameters)}")
        each: tuple[str, str] | None = None
        if spec.each is not None:
            if not parameters:
                raise self._wrong(f"{who} is for each of {spec.each!r}, and its actor has no parameter for it")
            each = (next(iter(parameters)), spec.each)
            if spec.each in self.specs and (spec.each not in before or self.specs[spec.each].each is not None):
                why = "is not before it" if spec.each not in before else "has many results; join them in a step between"
                raise self._wrong(f"{who} is for each of what {spec.each!r} returns, which {why}")
            if spec.each not in self.specs:
                self.arguments[spec.each] = True
        found: dict[str, tuple[str, str]] = {}
        for name, parameter in parameters.items():
            source = takes.get(name, name)
            if each is not None and name == each[0]:
                continue
            if parameter.kind is parameter.POSITIONAL_ONLY:
                raise self._wrong(f"{who} has a parameter {name!r} by position only; it is filled by name")
            if source in self.specs:
                if source not in before:
                    raise self._wrong(
                        f"{who} takes the result of {source!r}, which is not before it; say after={source!r}"
                    )
                many = self.specs[source].each is not None
                kind = Source.RESULT if not many else Source.SAME if source == spec.name else Source.RESULTS
            else:
                kind = Source.ARGUMENT
                required = parameter.default is parameter.empty or name in takes
                self.arguments[source] = required or self.arguments.get(source, False)
            found[name] = (str(kind), source)
        priority = min(5, max(1, actor.priority)) if actor.priority else 3
        return {
            "actor": actor.actor_name,
            "queue": actor.queue_name,
            "priority": priority,
            "takes": found,
            "each": each,
        }

    def _refuse_guarded(self, who: str, actor: Actor[Any, Any]) -> None:
        """What a flow keeps is in clear, and nobody sends its jobs: what is done with a send is not done with them."""
        schemas = getattr(actor.broker, "schemas", None)
        if actor.options.get("sensitive") or (schemas is not None and schemas.secrets(actor.actor_name)):
            raise self._wrong(f"{who} has secret arguments, and a flow keeps its values in clear; pass a reference")
        if actor.options.get("allowed_producers") is not None:
            raise self._wrong(f"{who} names its allowed_producers, and a flow is none; send() to it in a step")
        if actor.options.get("sequence"):
            raise self._wrong(f"{who} has a sequence, and jobs of flows stand in no line; send() to it in a step")


def nearest(name: str, known: Iterable[str]) -> str:
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0)
    return f"the nearest is {close[0]!r}" if close else f"there are: {', '.join(known) or 'none'}"

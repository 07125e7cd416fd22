"""A workflow as data.  What is stored with a flow, and decides how it goes on whatever the code says by then."""

import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from functools import cached_property


class Policy(StrEnum):
    """What a step's failure does to a step after it; of a last step, to the flow."""

    FAIL = "fail"  #: the flow fails; what was done stays as it is
    CONTINUE = "continue"  #: that step begins all the same, and gets None
    COMPENSATE = "compensate"  #: the flow fails, and what was done is undone


class Kind(StrEnum):
    RUN = "run"  #: an actor, once or for each item of a list
    WAIT = "wait"  #: for a signal
    SLEEP = "sleep"
    UNDO = "undo"  #: an actor that undoes another step, should the flow fail


class Source(StrEnum):
    """Where an argument of a step's actor comes from."""

    ARGUMENT = "argument"  #: of the flow; left out if it was not given
    RESULT = "result"  #: of a step
    RESULTS = "results"  #: of all items of an ``each`` step
    SAME = "same"  #: of the same item of an ``each`` step


@dataclass(frozen=True, slots=True)
class Node:
    """One step."""

    name: str
    kind: str
    after: Mapping[str, str] = field(default_factory=dict)  #: the steps before it, and what their failure does
    at_end: str = Policy.FAIL  #: what its own failure does when no step comes after it
    actor: str = ""
    queue: str = ""
    priority: int = 3
    takes: Mapping[str, Sequence[str]] = field(default_factory=dict)  #: parameter -> (source, name)
    each: Sequence[str] | None = None  #: (parameter, name): it runs for each item of that list
    when: str | None = None  #: the step whose result decides whether it runs
    holds: bool = True  #: which result lets it run
    signal: str | None = None
    delay_ms: int | None = None  #: of a sleep; of a wait, until it times out
    undoes: str | None = None


class Graph:
    """Steps in an order in which each comes after those it waits for."""

    def __init__(self, name: str, nodes: Sequence[Node]) -> None:
        self.name = name
        self.nodes = {node.name: node for node in nodes}
        self.forward = [node for node in nodes if node.kind != Kind.UNDO]
        self.undoing = {node.undoes: node for node in nodes if node.undoes is not None}

    @cached_property
    def policies(self) -> dict[str, frozenset[str]]:
        """What the failure of each step does, over all steps after it."""
        found: dict[str, set[str]] = {node.name: set() for node in self.forward}
        for node in self.forward:
            for parent, policy in node.after.items():
                found[parent].add(policy)
        return {name: frozenset(some or {self.nodes[name].at_end}) for name, some in found.items()}

    @cached_property
    def last(self) -> list[Node]:
        """The steps that no step comes after: what they return is the result of the flow."""
        before = {parent for node in self.forward for parent in node.after}
        return [node for node in self.forward if node.name not in before]

    @cached_property
    def body(self) -> str:
        default = asdict(Node("", ""))
        steps = [{k: v for k, v in asdict(node).items() if v != default[k]} for node in self.nodes.values()]
        return json.dumps(steps, separators=(",", ":"))

    @cached_property
    def version(self) -> str:
        """The same for the same steps, in whatever process."""
        return hashlib.sha256(self.body.encode()).hexdigest()[:12]


@functools.lru_cache(maxsize=128)
def parse(name: str, body: str) -> Graph:
    """A graph as it was stored."""
    return Graph(name, [Node(**fields) for fields in json.loads(body)])

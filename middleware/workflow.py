"""Workflows: what comes after what.

from middleware.workflow import sleep, step, wait, workflow
"""

import re
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from dramatiq import Actor
from pydantic_core import PydanticSerializationError, to_json
from uuid_utils import uuid7

from errors import InvalidWorkflow
from ledger.flows.graph import Graph
from ledger.flows.results import Results
from ledger.flows.store import NewFlow
from middleware.flow import Flow, flows_of
from middleware.steps import Spec, sleep, step, wait
from middleware.wiring import Wiring, nearest

__all__ = ["Results", "Spec", "Workflow", "sleep", "step", "wait", "workflow"]


def workflow(name: str) -> "Workflow":
    """A workflow without steps; :meth:`Workflow.then` adds them."""
    if not isinstance(name, str) or not re.fullmatch(r"[\w.-]{1,100}", name):
        raise InvalidWorkflow(f"a workflow is named by up to 100 letters, digits, dots, dashes, got {name!r}")
    return Workflow(name, ())


class Workflow:
    """Steps, and what they wait for; starting it makes a flow.  Never changes: :meth:`then` makes another.

    A flow goes by the steps its workflow had when it was started, whatever the code says later.
    """

    def __init__(self, name: str, stages: tuple[tuple[Spec, ...], ...]) -> None:
        self.name = name
        self._stages = stages

    def then(self, *steps: Actor[Any, Any] | Spec) -> "Workflow":
        """The same with these steps after all that nothing came after so far, side by side.

        Raises ``InvalidWorkflow`` for names that are used twice or not known, steps in a circle, and parameters that
        no step before it and no argument can fill.
        """
        if not steps:
            raise InvalidWorkflow(f"workflow {self.name!r}: then() adds at least one step")
        specs = tuple(given if isinstance(given, Spec) else step(given) for given in steps)
        longer = Workflow(self.name, (*self._stages, specs))
        longer.graph  # noqa: B018  building it is the check
        return longer

    @cached_property
    def graph(self) -> Graph:
        return self._built[0]

    @property
    def arguments(self) -> dict[str, bool]:
        """What :meth:`start` takes, and whether it must be given."""
        return self._built[1]

    def start(self, *, key: str | None = None, **arguments: Any) -> Flow:
        """Start a flow; it is committed, with its first jobs, when this returns.

        Parameters:
          key: with one, a second start of this workflow changes nothing and returns the flow that is there.
          arguments: the parameters of its steps that no step before them fills, by name.

        Raises ``InvalidWorkflow`` for arguments it does not take, ``LedgerUnavailable``.
        """
        self._check(arguments)
        try:
            values = {name: to_json(value) for name, value in arguments.items()}
        except PydanticSerializationError as error:
            raise InvalidWorkflow(f"workflow {self.name!r}: an argument cannot be written as JSON ({error})") from error
        return flows_of(self._broker).start(NewFlow(str(uuid7()), self.graph, key, values))

    def flow(self, id: str) -> Flow:
        """The handle of a flow that was started."""
        return flows_of(self._broker).flow(id)

    def _check(self, arguments: Mapping[str, Any]) -> None:
        takes = self.arguments
        problems = [f"{name!r} is missing" for name, required in takes.items() if required and name not in arguments]
        problems += [
            f"{name!r} is no argument of it; {nearest(name, takes)}" for name in arguments if name not in takes
        ]
        if problems:
            raise InvalidWorkflow(f"workflow {self.name!r} cannot be started: {'; '.join(problems)}")

    @property
    def _broker(self) -> Any:
        for stage in self._stages:
            for spec in stage:
                if spec.actor is not None:
                    return spec.actor.broker
        raise InvalidWorkflow(f"workflow {self.name!r} has no step that runs an actor; add one")

    @cached_property
    def _built(self) -> tuple[Graph, dict[str, bool]]:
        return Wiring(self.name, self._stages).build()

    def __repr__(self) -> str:
        return f"<Workflow {self.name!r} {self.graph.version}: {', '.join(self.graph.nodes)}>"

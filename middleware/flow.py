"""A flow: one run of a workflow, as the code that started it sees it."""

import json
import os
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dramatiq.results import ResultTimeout
from pydantic_core import PydanticSerializationError, to_json

from errors import FlowFailed, FlowNotFound, InvalidWorkflow
from ledger.flows.graph import Node
from ledger.flows.states import OVER, FlowState
from ledger.flows.store import NewFlow
from ledger.ledger import Send, Session
from middleware.deadlines import uninterrupted
from middleware.flows import Flows, everything
from middleware.waiting import pauses

if TYPE_CHECKING:
    from ledger.flows.views import FlowProgress, FlowView

#: How long :meth:`Flow.result` waits, in milliseconds, if it is not told; as results of jobs.
DEFAULT_TIMEOUT_MS = 10_000


class Flow:
    """The handle of a flow.  Any thread may use it; so may another process, by its id (``workflow.flow(id)``).

    Every method asks the ledger, and raises ``FlowNotFound`` once it has forgotten the flow, ``LedgerUnavailable``.
    """

    def __init__(self, flows: "FlowsOf", id: str) -> None:
        self._flows = flows
        self.id = id

    def status(self) -> FlowState:
        """How it stands; ``"completed"``, ``"failed"`` and ``"cancelled"`` are the end."""
        state = self._flows.broker.queries.flow_state(self.id)
        if state is None:
            raise FlowNotFound(f"no flow {self.id!r}; `hareline flows ls` shows those there are")
        return FlowState(state)

    @property
    def progress(self) -> "FlowProgress":
        """How many jobs have ended, of how many that are known of yet."""
        return self.view().progress

    def view(self) -> "FlowView":
        """All its steps, as ``hareline flows show`` has them."""
        view: FlowView | None = self._flows.broker.queries.flow(self.id)
        if view is None:
            raise FlowNotFound(f"no flow {self.id!r}; `hareline flows ls` shows those there are")
        return view

    def result(self, timeout: int | None = None) -> Any:
        """What its last step returned; of several that nothing comes after, a dictionary by their names.

        Waits for the end, ``timeout`` milliseconds (10 s by default).

        Raises:
          ResultTimeout: it was not over by then.
          FlowFailed: it failed, or was cancelled.
        """
        for pause_s in pauses((DEFAULT_TIMEOUT_MS if timeout is None else timeout) / 1000):
            if (state := self.status()) in OVER:
                break
            time.sleep(pause_s)
        else:
            raise ResultTimeout(f"flow {self.id} is {state}")
        if state is not FlowState.COMPLETED:
            raise FlowFailed(f"flow {self.id} {'was' if state is FlowState.CANCELLED else 'has'} {state}{self._why()}")
        return self._flows.result(self.id)

    def signal(self, name: str, data: Any = None) -> bool:
        """Let steps that wait for ``name`` go on, with ``data`` as what they return; those to come too.

        Returns false when the flow is over, or was given this signal before: the first one counts.

        Raises ``UnknownSignal`` if no step of its workflow waits for it.
        """
        return self._flows.signal(self.id, name, data)

    def cancel(self) -> FlowState:
        """Cancel it with everything that is live of it: what has not started never starts.

        Returns ``"cancelling"`` while jobs run that were asked to stop.  Raises ``IllegalTransition`` if it is over.
        """
        with uninterrupted():
            return self._flows.flows.session.once(lambda session: session.cancel_flow(self.id, self._flows.by))

    def retry(self) -> None:
        """Let it go on after it failed or was cancelled: new jobs for the steps that failed, the others are kept.

        Raises ``IllegalTransition`` if it did not, or what it had done was undone.
        """
        self._flows.send(lambda session: session.retry_flow(self.id, self._flows.by), self._flows.flows.session.once)

    def _why(self) -> str:
        for step in self.view().steps:
            error = step.error or next((failure.error for failure in step.failures), None)
            if error is not None:
                return f": step {step.name!r}: {error}"
        return ""

    def __repr__(self) -> str:
        return f"<Flow {self.id}>"


class FlowsOf:
    """The flows of one broker."""

    def __init__(self, broker: Any, flows: Flows) -> None:
        self.broker = broker
        self.flows = flows
        self.by = f"{socket.gethostname()}:{os.getpid()}"

    def start(self, new: NewFlow) -> Flow:
        return self.flow(self.send(lambda session: session.start_flow(new), self.flows.session.call))

    def flow(self, id: str) -> Flow:
        return Flow(self, id)

    def signal(self, id: str, name: str, data: Any) -> bool:
        try:
            body = to_json(data)
        except PydanticSerializationError as error:
            raise InvalidWorkflow(f"signal {name!r}: what it brings cannot be written as JSON ({error})") from error
        return bool(self.send(lambda session: session.signal_flow(id, name, body, self.by), self.flows.session.once))

    def send(self, work: Any, call: Callable[[Any], Any]) -> Any:
        """What ``work`` answers first, when it is called; the jobs it answers second travel."""
        with uninterrupted():
            answer, due = call(work)
            self.deliver(due)
        return answer

    def deliver(self, due: Send) -> None:
        if due:
            self.flows.recorder.send(list(due))

    def result(self, id: str) -> Any:
        graph = self.broker.queries.flow_graph(id)

        def read(session: Session) -> dict[str, Any]:
            return {node.name: self._returned(session, id, node) for node in graph.last}

        found = self.flows.session.call(read)
        return next(iter(found.values())) if len(found) == 1 else found

    def _returned(self, session: Session, id: str, node: Node) -> Any:
        if node.each is not None:
            return everything(session, id, node.name)
        body = session.flow_value(id, node.name)
        return None if body is None else json.loads(body)


def flows_of(broker: Any) -> FlowsOf:
    """Raises ``InvalidWorkflow`` when the broker is not one of Hareline's."""
    for middleware in broker.middleware:
        if isinstance(middleware, Flows):
            return FlowsOf(broker, middleware)
    raise InvalidWorkflow("its actors are not on a broker made by broker.build(); workflows need its ledger")

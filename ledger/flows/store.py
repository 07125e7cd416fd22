"""What driving a flow asks of a database, inside one transaction."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ledger.flows.graph import Graph
from ledger.flows.states import FlowState, ItemState, Step
from ledger.who import By


@dataclass(frozen=True, slots=True)
class NewFlow:
    """A flow to be started.

    ``id`` decides identity: starting the same id again changes nothing.  ``key``: there is one flow of it for each
    workflow, as long as the ledger remembers it.
    """

    id: str
    graph: Graph
    key: str | None = None
    arguments: Mapping[str, bytes] = field(default_factory=dict)  #: JSON


@dataclass(frozen=True, slots=True)
class Locked:
    """A flow whose row this transaction has locked."""

    id: str
    name: str
    version: str
    state: FlowState


class FlowStore(Protocol):
    """Flows are locked one at a time, in the order of their ids, after jobs."""

    def add(self, new: NewFlow) -> str:
        """Record a flow, its definition, its steps and its arguments; the id of the one that is there by then."""
        ...

    def lock_jobs(self, flow: str) -> None:
        """Lock the live jobs of a flow; called before :meth:`lock`, by who is going to change them."""
        ...

    def lock(self, flow: str) -> Locked | None: ...

    def graph(self, flow: Locked) -> Graph: ...

    def steps(self, flow: str) -> dict[str, Step]: ...

    def write(self, flow: str, steps: Collection[Step]) -> None: ...

    def move(self, flow: str, state: FlowState) -> None: ...

    def tally(self, flow: str, step: str, ended: int, failed: int, truth: bool | None) -> int:
        """So many jobs of a step have ended; how many have not."""
        ...

    def hire(self, flow: str, step: str, jobs: Sequence[tuple[int, str]]) -> None:
        """These (item, job) are the step's; of an item that has a job already, in its place."""
        ...

    def end(self, jobs: Sequence[str], state: ItemState) -> set[str]:
        """Note how jobs ended; those of them that were live."""
        ...

    def items(self, flow: str, step: str, *, completed: bool) -> list[int]:
        """The items of a step that have, or have not, completed; in order."""
        ...

    def value(self, flow: str, name: str) -> bytes | None: ...

    def keep(self, flow: str, values: Iterable[tuple[str, int, bytes]]) -> None:
        """Keep (name, item, JSON): arguments, results, signals."""
        ...

    def due(self, limit: int) -> list[str]:
        """Flows of which a step waits for a time that has come."""
        ...

    def lost(self, limit: int) -> list[tuple[str, str, int, str, str]]:
        """(flow, step, item, job, state) of jobs that ended otherwise than by a finish of theirs."""
        ...

    def cancel_jobs(self, flow: str, by: By) -> list[tuple[str, str]]:
        """Cancel the live jobs of a flow: those that run are asked to stop; the others have, as (step, job)."""
        ...

    def note(self, event: str, by: By, detail: Mapping[str, object]) -> None:
        """A line in the journal, and one in the audit trail at :meth:`conclude`."""
        ...

    def conclude(self) -> None:
        """Put down in the audit trail what was noted: last in the transaction."""
        ...

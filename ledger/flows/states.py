"""The states of a flow (one run of a workflow) and of its steps, and how a step's job ends for it."""

from dataclasses import dataclass
from enum import StrEnum


class FlowState(StrEnum):
    RUNNING = "running"
    FAILING = "failing"  #: a step failed; nothing begins any more, what runs may end
    COMPENSATING = "compensating"  #: what was done is being undone
    CANCELLING = "cancelling"  #: it was asked to stop; what runs may end
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class StepState(StrEnum):
    WAITING = "waiting"  #: for the steps before it
    RUNNING = "running"  #: its jobs are recorded; its signal, or its time, is awaited
    COMPLETED = "completed"
    FAILED = "failed"  #: also an ``each`` of which one item failed, once all of them have ended
    SKIPPED = "skipped"  #: its condition did not hold
    CANCELLED = "cancelled"  #: it never began, or was stopped, for the flow ended


class ItemState(StrEnum):
    """One job of a step: the column ``flow_jobs.state``."""

    LIVE = "live"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


#: The option of a Dramatiq message that says which step of which flow it is.
OPTION = "flow_step"
OVER = frozenset({FlowState.COMPLETED, FlowState.FAILED, FlowState.CANCELLED})
ENDED = frozenset(StepState) - {StepState.WAITING, StepState.RUNNING}


@dataclass(slots=True)
class Step:
    """Where one step of a flow stands: a row of ``flow_steps``."""

    name: str
    state: StepState = StepState.WAITING
    jobs: int = 0  #: how many it has
    remaining: int = 0  #: of these, not ended
    failed: int = 0  #: of these, failed or cancelled
    truth: bool | None = None  #: whether what it returned counts as true, for conditions
    error: str | None = None  #: why it failed, if that was no job
    due: bool = False  #: read only: what it waits for is due, or timed out
    due_ms: int | None = None  #: written only: when that will be, counted from now


@dataclass(frozen=True, slots=True)
class StepEnd:
    """What a job that is a step brings home; its state is that of the job."""

    flow: str
    step: str
    item: int = 0
    result: bytes | None = None  #: JSON; None: it returned None
    truth: bool = False

"""What comes in and goes out.  Rows of lists are the ledger's own views."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Generic, Literal, Self, TypeVar

from fastapi import Depends, Query
from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from dashboard.security import Principal, principal
from ledger.operations import Deed, OperationView, Trouble
from ledger.records import LONGEST_DELAY_MS
from ledger.search import Bounded
from ledger.states import Reason, State
from ledger.views import (
    AttemptView,
    CheckpointView,
    ClaimView,
    JobRow,
    JobView,
    Moment,
    ProgressView,
    ResultMeta,
    WaitView,
)

T = TypeVar("T")

#: A name or an id that is looked up: what no database takes is refused before it is asked.
Name = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
#: What a person typed.
Text = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$")]


def _in_our_time(moment: datetime) -> datetime:
    return min(max(moment, datetime(1970, 1, 1, tzinfo=UTC)), datetime(9000, 1, 1, tzinfo=UTC))


#: Of a window; no job is of another time than this, in which there is a day before and after every moment.
When = Annotated[AwareDatetime, AfterValidator(_in_our_time)]
Asks = Annotated[Principal, Depends(principal)]
Limit = Annotated[int, Query(ge=1, le=1000, description="At most so many.")]
After = Annotated[Name | None, Query(description="`next` of the page before.")]


class Page(BaseModel, Generic[T]):
    """Some of a list, and where it goes on."""

    items: list[T]
    next: str | None = Field(description="`after` of the next page; null: this is the last.")


def page(rows: Sequence[T], limit: int, last: str | None) -> Page[T]:
    """The first ``limit`` of rows that were asked for with one more; ``last`` is the place of the last of them."""
    return Page[T](items=list(rows[:limit]), next=last if len(rows) > limit else None)


class Done(BaseModel):
    """What was done."""

    id: str
    result: str = Field(description="In a word.", examples=["cancelled"])


class Input(BaseModel):
    """What a body may have, and nothing else; its numbers are finite."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Send(Input):
    """A message for an actor: a job to be."""

    actor: Name = Field(description="The actor's name, or an alias of it.", examples=["calculate_costs"])
    args: list[Any] = Field(default=[], examples=[["r1"]])
    kwargs: dict[str, Any] = Field(default={})
    queue: Name | None = Field(default=None, description="Another queue than the actor's own.")
    priority: int | None = Field(default=None, ge=1, le=5, description="1 (critical) to 5 (background).")
    delay_ms: int | None = Field(default=None, ge=0, le=LONGEST_DELAY_MS, description="Not before so long from now.")
    eta: AwareDatetime | None = Field(default=None, description="Not before then; instead of delay_ms.")
    unique: Mapping[str, Any] | bool = Field(
        default=True,
        description="true: as the actor has it; false: not; or by, within, states, mode as `Unique(…)` takes them.",
    )

    @model_validator(mode="after")
    def _one_time(self) -> "Send":
        if self.delay_ms is not None and self.eta is not None:
            raise ValueError("delay_ms and eta are two ways to say when; leave one out")
        return self


class Sent(BaseModel):
    """The job that a message has become."""

    id: str
    message_id: str
    queue: str
    actor: str
    state: State
    run_at: datetime = Field(description="When it is due.")
    duplicate: bool = Field(description="Nothing was recorded: this is the job that holds its key.")

    @classmethod
    def of(cls, job: JobRow, *, duplicate: bool) -> "Sent":
        shared = cls.model_fields.keys() - {"duplicate"}
        return cls(**{name: getattr(job, name) for name in shared}, duplicate=duplicate)


class Edit(Input):
    """What is to be other than in the old job; the rest stays."""

    args: list[Any] | None = None
    kwargs: dict[str, Any] | None = None
    queue: Name | None = None


class Listed(BaseModel):
    """One line of a list of jobs."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    message_id: str
    queue: str
    actor: str
    priority: int
    state: State
    reason: Reason | None = Field(description="Why it is a dead letter.")
    attempts_spent: int
    crashes: int
    created_at: datetime
    run_at: datetime = Field(description="When it is, or last became, due.")
    finished_at: datetime | None
    duration_s: float | None = Field(description="How long the last attempt of a finished job ran; null: it never did.")
    archived: bool = Field(description="It is in the history.")
    args: str = Field(description="Its arguments in short, redacted; empty for who may not see them.")
    error: str | None = Field(description="What made it a dead letter; null for who may not see it.")
    progress: float | None = Field(description="0 to 1, of one that runs and told.")


class Listing(BaseModel):
    """Some of the jobs that fit, and where they go on."""

    items: list[Listed]
    next: str | None = Field(description="`after` of the next page; null: this is the last.")
    since: datetime | None = Field(description="From when on words were looked for.")


class Count(BaseModel):
    """How many; counting ended at a bound."""

    count: int
    more: bool = Field(description="There are more than that.")

    @classmethod
    def of(cls, found: Bounded) -> "Count":
        return cls(count=found.count, more=found.more)


class Payload(BaseModel):
    id: str
    message: Mapping[str, Any] | None = Field(description="args, kwargs, options …; null when it is no message.")
    revealed: bool


class Expecting(Input):
    expected_count: int | None = Field(
        default=None, ge=0, description="How many jobs you have seen that fit; needed, unless it is a dry run."
    )
    dry_run: bool = Field(default=False, description="Only count.")

    @model_validator(mode="after")
    def _expects(self) -> Self:
        if self.expected_count is None and not self.dry_run:
            raise ValueError("expected_count is needed: a dry_run says how many jobs fit")
        return self


class Operation(BaseModel):
    """A bulk operation."""

    id: str | None = Field(description="null: it was a dry run.")
    action: Deed
    q: str = Field(description="Which jobs, as a query.")
    state: Literal["running", "done", "cancelled", "tried"]
    expected: Count
    done: int
    skipped: int = Field(description="Had moved on to another state, or were gone.")
    failed: int
    progress: float = Field(description="0 to 1")
    troubles: list[Trouble] = Field(description="The first of those that failed, and why.")
    created_at: datetime
    created_by: str
    finished_at: datetime | None
    cancelled_by: str | None

    @classmethod
    def of(cls, view: OperationView) -> "Operation":
        same = ("state", "done", "skipped", "failed", "progress", "created_at", "created_by")
        return cls(
            **{name: getattr(view, name) for name in (*same, "finished_at", "cancelled_by")},
            id=view.id or None,
            action=view.verb,
            q=view.filter.words(),
            expected=Count.of(view.expected),
            troubles=list(view.troubles),
        )


class Happening(BaseModel):
    """One line of a job's timeline."""

    at: datetime
    event: str
    text: str
    who: str


class Job(BaseModel):
    """Everything known of one job."""

    id: str
    message_id: str
    queue: str
    actor: str
    priority: int
    state: State
    reason: Reason | None = Field(description="Why it is a dead letter.")
    producer: str = Field(description="Who sent it.")
    attempts_spent: int
    crashes: int
    cancel_requested: bool
    created_at: datetime
    run_at: datetime = Field(description="When it is, or last became, due.")
    finished_at: datetime | None
    archived: bool = Field(description="It is in the history.")
    message: Mapping[str, Any] | None = Field(
        description="As sent, redacted: args, kwargs, options; null when it is none, or not for you."
    )
    attempts: list[AttemptView]
    timeline: list[Happening] = Field(description="What happened to it, oldest first.")
    claim: ClaimView | None = Field(description="Who has it in hand.")
    progress: ProgressView | None
    checkpoint: CheckpointView | None
    result: ResultMeta | None
    waits: WaitView | None = Field(description="What it waits for, when a limit or a sequence holds it.")
    holds_back: int = Field(description="Jobs of its sequence that wait for it to end.")

    @classmethod
    def of(cls, view: JobView, message: Mapping[str, Any] | None) -> "Job":
        shared = cls.model_fields.keys() - {"timeline", "message", "attempts"}
        return cls(
            **{name: getattr(view, name) for name in shared},
            message=message,
            attempts=list(view.attempts),
            timeline=[_told(moment) for moment in view.timeline()],
        )


def _told(moment: Moment) -> Happening:
    return Happening(**moment._asdict())

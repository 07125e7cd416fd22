"""What comes in and goes out.  Rows of lists are the ledger's own views."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Generic, TypeVar

from fastapi import Query
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from ledger.records import LONGEST_DELAY_MS
from ledger.states import Reason, State
from ledger.views import (
    AttemptView,
    CheckpointView,
    ClaimView,
    JobView,
    Moment,
    ProgressView,
    ResultMeta,
    WaitView,
)

T = TypeVar("T")

#: A name or an id that is looked up: what no database takes is refused before it is asked.
Name = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
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
    """What a body may have, and nothing else."""

    model_config = ConfigDict(extra="forbid")


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
    message: Mapping[str, Any] | None = Field(description="As sent: args, kwargs, options; null when it is no message.")
    attempts: list[AttemptView]
    timeline: list[Happening] = Field(description="What happened to it, oldest first.")
    claim: ClaimView | None = Field(description="Who has it in hand.")
    progress: ProgressView | None
    checkpoint: CheckpointView | None
    result: ResultMeta | None
    waits: WaitView | None = Field(description="What it waits for, when a limit or a sequence holds it.")
    holds_back: int = Field(description="Jobs of its sequence that wait for it to end.")

    @classmethod
    def of(cls, view: JobView) -> "Job":
        shared = cls.model_fields.keys() - {"timeline", "message", "attempts"}
        return cls(
            **{name: getattr(view, name) for name in shared},
            message=view.message,
            attempts=list(view.attempts),
            timeline=[_told(moment) for moment in view.timeline()],
        )


def _told(moment: Moment) -> Happening:
    return Happening(**moment._asdict())

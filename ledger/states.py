"""The states of a job and the only ways from one to another, as data.

The SQL ``CHECK``, the diagram in ``docs/job-states.md`` and every statement that moves a job
are tested against this module; nothing else defines a state.
"""

from enum import StrEnum


class State(StrEnum):
    DELAYED = "delayed"  #: due later: a first delay, a retry's back-off, a snooze, a parked or blocked job
    WAITING = "waiting"  #: due; a message is on its way to a worker, or about to be
    ACTIVE = "active"  #: claimed by one worker, under one epoch
    COMPLETED = "completed"
    FAILED = "failed"  #: a dead letter; ``reason`` says why
    CANCELLED = "cancelled"


LIVE = frozenset({State.DELAYED, State.WAITING, State.ACTIVE})
FINISHED = frozenset(State) - LIVE


class Event(StrEnum):
    """What can happen to a job; also the vocabulary of the journal and of the logs."""

    ENQUEUED = "enqueued"
    ADOPTED = "adopted"  #: a message of a foreign client became a job
    BURIED = "buried"  #: a message that could never run was kept as a dead letter
    REPLACED = "replaced"  #: before it started, a later message of the same key took its place
    PROMOTED = "promoted"  #: its time came
    CLAIMED = "claimed"
    COMPLETED = "completed"
    RETRYING = "retrying"
    SNOOZED = "snoozed"  #: put off without spending an attempt
    PARKED = "parked"  #: put off before it ran: paused, limited, blocked, suspect, unknown actor
    RELEASED = "released"  #: given back by a live worker: shutdown, unstarted, forgotten
    CRASHED = "crashed"  #: its worker died or stalled past the lease
    FAILED = "failed"
    CANCELLED = "cancelled"
    RETRIED = "retried"  #: an operator sent it round again
    RESENT = "resent"  #: it needed another message: rebuild, orphan sweep


#: event -> the (from, to) pairs it may make.  ``None`` is "no row yet".
TRANSITIONS: dict[Event, frozenset[tuple[State | None, State]]] = {
    Event.ENQUEUED: frozenset({(None, State.WAITING), (None, State.DELAYED)}),
    Event.ADOPTED: frozenset({(None, State.WAITING), (None, State.DELAYED)}),
    Event.BURIED: frozenset({(None, State.FAILED)}),
    Event.REPLACED: frozenset(
        (was, state) for was in (State.WAITING, State.DELAYED) for state in (State.WAITING, State.DELAYED)
    ),
    Event.PROMOTED: frozenset({(State.DELAYED, State.WAITING)}),
    Event.CLAIMED: frozenset({(State.WAITING, State.ACTIVE)}),
    Event.COMPLETED: frozenset({(State.ACTIVE, State.COMPLETED)}),
    Event.RETRYING: frozenset({(State.ACTIVE, State.DELAYED)}),
    Event.SNOOZED: frozenset({(State.ACTIVE, State.DELAYED)}),
    Event.PARKED: frozenset(
        {(State.WAITING, State.DELAYED), (State.WAITING, State.WAITING), (State.ACTIVE, State.DELAYED)}
    ),
    Event.RELEASED: frozenset({(State.ACTIVE, State.WAITING)}),
    Event.CRASHED: frozenset({(State.ACTIVE, State.WAITING)}),
    Event.FAILED: frozenset(
        {(State.ACTIVE, State.FAILED), (State.WAITING, State.FAILED), (State.DELAYED, State.FAILED)}
    ),
    Event.CANCELLED: frozenset((state, State.CANCELLED) for state in LIVE),
    Event.RETRIED: frozenset(
        (was, state)
        for was, states in (
            (State.FAILED, (State.WAITING, State.DELAYED)),
            (State.CANCELLED, (State.WAITING, State.DELAYED)),
            (State.DELAYED, (State.WAITING,)),
        )
        for state in states
    ),
    Event.RESENT: frozenset({(State.WAITING, State.WAITING)}),
}


class Reason(StrEnum):
    """Why a job is a dead letter."""

    RETRIES_EXHAUSTED = "retries_exhausted"
    REFUSED = "refused"  #: an exception in the actor's ``throws``, or a middleware's refusal
    DISCARDED = "discarded"  #: the actor raised ``Discard``
    FAILURE = "failure"  #: the actor returned a ``Failure``
    EXPIRED = "expired"  #: not tried within its ``expires``
    POISON = "poison"  #: it killed its worker three times
    UNKNOWN_ACTOR = "unknown_actor"
    MALFORMED = "malformed"  #: bytes that are not a Dramatiq message
    INVALID_PAYLOAD = "invalid_payload"  #: arguments that do not fit the actor's signature
    UNDECIPHERABLE = "undecipherable"  #: encrypted arguments that do not open: a key is missing, say
    FORBIDDEN = "forbidden"  #: from a producer that its actor does not allow
    UNKNOWN_ORIGIN = "unknown_origin"  #: a message of ours whose row is gone; never run


class Outcome(StrEnum):
    """How one attempt ended; the column ``attempts.outcome``."""

    COMPLETED = "completed"
    RETRYING = "retrying"
    SNOOZED = "snoozed"
    SKIPPED = "skipped"  #: a middleware raised ``SkipMessage``; the job is completed
    PARKED = "parked"
    INTERRUPTED = "interrupted"  #: shutdown stopped it; costs no attempt
    FAILED = "failed"
    CANCELLED = "cancelled"
    CRASHED = "crashed"


#: Of attempts that ran and whose worker said how they ended.
RAN = frozenset({Outcome.COMPLETED, Outcome.RETRYING, Outcome.SNOOZED, Outcome.FAILED, Outcome.CANCELLED})

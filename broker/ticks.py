"""Ticks of schedules as messages."""

import difflib
import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dramatiq.message import Message

from broker.making import job_of
from errors import BadSchedule, HarelineError, QueueDraining, QueueFull, Refusal
from ledger.ledger import Session
from ledger.schedules import Overlap, Schedule
from ledger.sealed import SEALED
from ledger.ticks import Tick, Ticked, TickOutcome

if TYPE_CHECKING:
    from datetime import datetime

    from broker.broker import Broker


def message_of(broker: "Broker", schedule: Schedule) -> Message[Any]:
    """What a tick sends.  Raises :class:`BadSchedule` when there is no such actor."""
    name = broker.aliases.of(schedule.actor)
    if name not in broker.actors:
        near = difflib.get_close_matches(schedule.actor, broker.actors, n=1, cutoff=0) or ["(there is none)"]
        raise BadSchedule(f"schedule {schedule.key!r}: no actor is named {schedule.actor!r}; the nearest is {near[0]}")
    actor = broker.actors[name]
    return actor.message_with_options(args=schedule.args, kwargs=dict(schedule.kwargs), **schedule.options)


def check(broker: "Broker", schedule: Schedule) -> None:
    """Raise :class:`BadSchedule`, which names it, unless its actor exists and takes its message."""
    try:
        job = job_of(broker, message_of(broker, schedule))
    except Refusal as error:
        raise BadSchedule(f"schedule {schedule.key!r}: {error}") from error
    if (schedule.args or schedule.kwargs) and SEALED in json.loads(job.body)["options"]:
        raise BadSchedule(
            f"schedule {schedule.key!r}: actor {schedule.actor!r} has secret arguments, and a schedule is kept as it "
            "is written; give it a reference that the actor looks up"
        )
    schedule.definition()


def tick(broker: "Broker", schedule: Schedule, revision: int, fire_at: "datetime") -> tuple[Tick, Message[Any] | None]:
    """The tick with its job, and the message; one that cannot be sent as the schedule has it, as refused.

    Raises ``LedgerUnavailable``.
    """
    broker.room.ask()  # a scheduler may send nothing else, and it has no heartbeat that asks
    due_at = schedule.timetable.due(schedule.key, fire_at)
    try:
        message = message_of(broker, schedule)
        broker.emit_before("enqueue", message, None)
        job = job_of(broker, message, tick=(schedule.key, fire_at))
    except Exception as error:  # an actor's option, or a middleware: others have nothing to do with it
        why = str(error) if isinstance(error, HarelineError) else f"{type(error).__name__}: {error}"
        return Tick(schedule.key, revision, fire_at, due_at, outcome=TickOutcome.REFUSED, why=why), None
    return Tick(schedule.key, revision, fire_at, due_at, job, Overlap(schedule.overlap)), message


def enqueue(
    broker: "Broker", session: Session, holder: str, term: int, ticks: Sequence[tuple[Tick, Message[Any] | None]]
) -> list[Ticked] | None:
    """Decide ticks and let the jobs of those that are sent travel; None when the lease is another's.

    One whose queue is full, or is being drained, waits.  Raises ``LedgerUnavailable``.
    """
    with ExitStack() as stack:
        asked = _with_room(broker, stack, [one for one, _ in ticks])
        answers = session.tick(holder, term, asked)
    if answers is None:
        return None
    sent = [(one.job, answer.sent) for one, answer in zip(asked, answers, strict=True) if one.job and answer.sent]
    if sent:
        jobs, recorded = zip(*sent, strict=True)
        broker.recorder.recorded(jobs, recorded)
    for (_, message), answer in zip(ticks, answers, strict=True):
        if message is not None and answer.sent is not None:
            broker.emit_after("enqueue", message, None)
    return answers


def _with_room(broker: "Broker", stack: ExitStack, ticks: list[Tick]) -> list[Tick]:
    """The same; those whose queue takes no job now, and the later ones of their schedules, wait."""
    if not broker.room.watched:
        return ticks
    full: dict[str, str] = {}
    found = []
    for one in ticks:
        try:
            if one.job is not None and one.schedule not in full:
                stack.enter_context(broker.room.taken([one.job]))
        except (QueueFull, QueueDraining) as error:
            full[one.schedule] = str(error)
        why = full.get(one.schedule)
        found.append(one if why is None else replace(one, job=None, outcome=TickOutcome.WAITING, why=why))
    return found

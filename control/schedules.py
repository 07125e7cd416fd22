"""Verbs for schedules.  A running scheduler goes by them within a second; what was paused or removed sends nothing."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, Protocol

from sqlalchemy import delete, insert, select, update

from control.transaction import Control, Transaction
from control.who import By
from errors import BadSchedule, IllegalTransition, ScheduleNotFound
from ledger.schedules import Schedule
from ledger.schedules.schedule import read
from ledger.tables import schedules, ticks

_BATCH = 500

#: What the code does not name any more stays, and sends nothing, until somebody removes it.
NOT_DECLARED = "the code does not declare it any more"

Source = Literal["code", "data"]
Change = Literal["added", "changed", "same"]
Expect = Literal["new", "known"]


class Judge(Protocol):
    """Who knows the actors: the broker."""

    def check_schedule(self, schedule: Schedule) -> None:
        """Raise ``BadSchedule`` unless its actor exists and takes its message."""
        ...


def put(
    control: Control, wanted: Iterable[Schedule], *, judge: Judge, by: By, expect: Expect | None = None
) -> dict[str, Change]:
    """Add schedules, or change those of the same keys; what became of each.  Idempotent.

    All are checked before any is written; then five hundred are one transaction.  One that is new, or has a new
    timetable, begins now; one that was paused stays so.  Raises ``BadSchedule``, also for a key that the code declares.

    Parameters:
      expect: "new" refuses keys that are there, "known" those that are not.
    """
    unique = {schedule.key: schedule for schedule in wanted}
    for schedule in unique.values():
        judge.check_schedule(schedule)
    done: dict[str, Change] = {}
    keys = sorted(unique)
    for start in range(0, len(keys), _BATCH):
        some = {key: (unique[key], "") for key in keys[start : start + _BATCH]}
        done |= control.run(lambda tx, some=some: _write(tx, some, "data", expect), by=by)  # type: ignore[misc]
    return done


def reconcile(control: Control, declared: Sequence[tuple[Schedule, str]], *, by: By) -> dict[str, Change]:
    """Bring the ledger to what the code declares, each with why it is left out (empty when it is not).  Idempotent.

    Those the code does not declare any more stay, and send nothing.  Raises ``BadSchedule`` for a key that somebody
    added at runtime.
    """

    def verb(tx: Transaction) -> dict[str, Change]:
        wanted = {schedule.key: (schedule, why) for schedule, why in sorted(declared, key=lambda x: x[0].key)}
        done = _write(tx, wanted, "code")
        gone = list(
            tx.connection.scalars(
                select(schedules.c.key)
                .where(
                    schedules.c.source == "code",
                    schedules.c.key.not_in(list(wanted)),
                    schedules.c.left_out != NOT_DECLARED,
                )
                .with_for_update()
            )
        )
        for key in gone:
            _change(tx, key, left_out=NOT_DECLARED)
            tx.note(None, "schedule left out", {"schedule": key, "why": NOT_DECLARED})
        return done

    return control.run(verb, by=by)


def pause(control: Control, key: str, *, by: By) -> None:
    """Send nothing of it; when this returns, nothing is sent any more.  Idempotent.  Raises ``ScheduleNotFound``."""

    def verb(tx: Transaction) -> None:
        if _lock(tx, key).paused_at is None:
            _change(tx, key, paused_at=tx.now, paused_by=tx.by)
            tx.note(None, "schedule paused", {"schedule": key})

    control.run(verb, by=by)


def resume(control: Control, key: str, *, by: By) -> None:
    """Go on with the next tick; those of the pause are not missed, they were not wanted.  Idempotent.

    Raises ``ScheduleNotFound``.
    """

    def verb(tx: Transaction) -> None:
        if _lock(tx, key).paused_at is not None:
            _change(tx, key, paused_at=None, paused_by=None, done_until=tx.now)
            tx.note(None, "schedule resumed", {"schedule": key})

    control.run(verb, by=by)


def remove(control: Control, key: str, *, by: By) -> None:
    """Forget a schedule and its ticks; its jobs stay.  Raises ``ScheduleNotFound``, ``IllegalTransition``."""

    def verb(tx: Transaction) -> None:
        row = _lock(tx, key)
        if row.source == "code" and row.left_out != NOT_DECLARED:
            raise IllegalTransition(
                f"schedule {key!r} is declared in code, and would be there again; pause it, or remove it there first"
            )
        tx.connection.execute(delete(ticks).where(ticks.c.schedule == key))
        tx.connection.execute(delete(schedules).where(schedules.c.key == key))
        tx.note(None, "schedule removed", {"schedule": key, "definition": row.definition})

    control.run(verb, by=by)


def reveal(control: Control, key: str, *, by: By) -> None:
    """Note in the journal that somebody is about to read what its message has that looks like a secret."""
    control.run(lambda tx: tx.note(None, "revealed", {"schedule": key}), by=by)


def _lock(tx: Transaction, key: str) -> Any:
    row = tx.connection.execute(select(schedules).where(schedules.c.key == key).with_for_update()).one_or_none()
    if row is None:
        raise _unknown(key)
    return row


def _unknown(key: str) -> ScheduleNotFound:
    return ScheduleNotFound(f"there is no schedule {key!r}; `hareline schedules ls` shows all")


def _write(
    tx: Transaction, wanted: Mapping[str, tuple[Schedule, str]], source: Source, expect: Expect | None = None
) -> dict[str, Change]:
    rows = tx.connection.execute(
        select(schedules).where(schedules.c.key.in_(list(wanted))).order_by(schedules.c.key).with_for_update()
    )
    known = {row.key: row for row in rows}
    done: dict[str, Change] = {}
    new = []
    for key, (schedule, left_out) in wanted.items():
        definition = schedule.definition()
        row = known.get(key)
        if row is None and expect == "known":
            raise _unknown(key)
        if row is not None and row.source == source and expect == "new":
            raise BadSchedule(f"schedule {key!r} is there; `hareline schedules set {key}` changes it")
        if row is None:
            new.append(_new(tx, schedule, definition, source, left_out))
            done[key] = "added"
        elif row.source != source:
            raise BadSchedule(
                f"schedule {key!r} is declared in code: change it there, or pause it"
                if source == "data"
                else f"schedule {key!r} was added at runtime; give the one in the code another key, or remove that "
                f"(`hareline schedules rm {key}`)"
            )
        elif (row.definition, row.left_out) == (definition, left_out):
            done[key] = "same"
        else:
            anew = {"done_until": tx.now} if row.left_out or _fires_otherwise(row, schedule) else {}
            _change(tx, key, definition=definition, actor=schedule.actor, left_out=left_out, **anew)
            done[key] = "changed"
    if new:
        tx.connection.execute(insert(schedules), new)
    told = [
        (f"schedule {change}", {"schedule": key, "definition": wanted[key][0].definition()})
        for key, change in done.items()
        if change != "same"
    ]
    tx.note_many(told)
    return done


def _new(tx: Transaction, schedule: Schedule, definition: str, source: Source, left_out: str) -> dict[str, Any]:
    return {
        "key": schedule.key,
        "source": source,
        "actor": schedule.actor,
        "definition": definition,
        "revision": 1,
        "left_out": left_out,
        "created_at": tx.now,
        "changed_at": tx.now,
        "changed_by": tx.by,
        "done_until": tx.now,
    }


def _fires_otherwise(row: Any, schedule: Schedule) -> bool:
    try:
        return read(row.key, row.definition).timetable != schedule.timetable
    except BadSchedule:
        return True


def _change(tx: Transaction, key: str, **values: Any) -> None:
    tx.connection.execute(
        update(schedules)
        .where(schedules.c.key == key)
        .values(revision=schedules.c.revision + 1, changed_at=tx.now, changed_by=tx.by, **values)
    )

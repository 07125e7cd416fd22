"""Alerts: what changes for the worse or the better is told, once.

How each thing stands is kept in the ledger, and with a change, in one transaction, what is to be told to whom: by
however many processes health is judged, a change is told once.  A delivery is tried until it succeeds or is given up.
A process that dies between delivering and noting so delivers again, under the same id.
"""

import logging
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Row, delete, func, insert, select, update
from uuid_utils import uuid7

from control.destinations import Destination
from control.health import Finding, Health
from control.transaction import Control, Transaction
from control.who import By
from errors import BadInput
from ledger.alerts import CHANGED, AlertChange, AlertView, DeliveryView, Level
from ledger.notice import Kind, Notice
from ledger.queries import Queries
from ledger.tables import alerts, dead_notes, deliveries
from ledger.text import line
from settings import HEALTH

logger = logging.getLogger("hareline.alerts")

DUTY: Final = "alerts"
#: A thing is well again when it is below its threshold by this factor: at the threshold it would flap.
MARGIN: Final = 0.8
#: Tries of a delivery, and the pause after the first; doubled each time, up to the last.
TRIES: Final = 12
PAUSE_S: Final = (10.0, 900.0)
#: Groups of dead letters that one message names.
NAMED: Final = 10
#: Before what was said last of a thing that nobody looks at any more.
GONE: Final = "over, or not looked at any more: "
#: How long a delivery is kept, to be shown.
KEPT: Final = timedelta(days=7)


# -- judging


def judge(control: Control, health: Health, to: Collection[str], *, calm_s: float, by: By = DUTY) -> list[Notice]:
    """Note how everything stands, and what of that is to be told to these destinations; returns the notices."""

    def verb(tx: Transaction) -> list[Notice]:
        _lock(tx)
        known = {(row.queue, row.rule): row for row in tx.connection.execute(select(alerts).with_for_update())}
        told = []
        for finding in health.findings:
            notice = _judge_one(tx, known.pop((finding.queue, finding.rule), None), finding, calm_s)
            told += [notice] if notice else []
        # What is not looked at any more: a queue without jobs, a rule that was switched off.
        for row in known.values():
            said = GONE + row.text.removeprefix(GONE)
            gone = Finding(row.queue, row.rule, Level.OK, 0.0, 0.0, 0.0, said)
            notice = _judge_one(tx, row, gone, calm_s)
            told += [notice] if notice else []
        for notice in told:
            _post(tx, notice, to)
        return told

    return control.run(verb, by=by)


def _judge_one(tx: Transaction, row: Row[Any] | None, finding: Finding, calm_s: float) -> Notice | None:
    was, told, level, muted = Level.OK, Level.OK, finding.level, False
    calm_at: datetime | None = None
    if row is not None:
        was, told = Level(row.level), Level(row.told)
        level, calm_at = settled(was, row.calm_at, finding, tx.now, calm_s)
        muted = row.muted_until is not None and row.muted_until > tx.now
    elif level is Level.OK:
        return None
    else:
        new = {"queue": finding.queue, "rule": finding.rule, "text": ""}
        tx.connection.execute(insert(alerts).values(**new, level="ok", value=0.0, since=tx.now, told="ok"))
    tells = level is not told and not muted
    mine = (alerts.c.queue == finding.queue) & (alerts.c.rule == finding.rule)
    muting = row is not None and row.muted_until is not None
    if level is Level.OK and not muted and (tells or told is Level.OK) and not calm_at:
        tx.connection.execute(delete(alerts).where(mine))
    else:
        values: dict[str, Any] = {"level": level, "value": finding.value, "text": finding.text, "calm_at": calm_at}
        values |= {"since": tx.now} if level is not was else {}
        values |= {"told": level, "told_at": tx.now} if tells else {}
        values |= {"muted_until": None, "muted_by": None} if muting and not muted else {}
        tx.connection.execute(update(alerts).where(mine).values(**values))
    if level is not was:
        tx.note(None, CHANGED, {"queue": finding.queue, "rule": finding.rule, "level": level, "was": was}, deed=False)
    return _notice(tx, finding, level, told) if tells else None


def settled(
    was: Level, calm_at: datetime | None, finding: Finding, now: datetime, calm_s: float
) -> tuple[Level, datetime | None]:
    """The level that counts, and since when it is below that of before.

    Worse counts at once.  Better counts once it has been so for a while, and with a margin.
    """
    if finding.level.rank >= was.rank:
        return finding.level, None
    threshold = finding.critical if was is Level.CRITICAL else finding.warning
    if finding.value > threshold * MARGIN:
        return was, None
    calm_at = calm_at or now
    if (now - calm_at).total_seconds() < calm_s:
        return was, calm_at
    return finding.level, None


def _notice(tx: Transaction, finding: Finding, level: Level, told: Level) -> Notice:
    where = f"queue {finding.queue}" if finding.queue else "the system"
    kind: Kind = "recovery" if level.rank < told.rank else "alert"
    word = {Level.OK: "well again", Level.WARNING: "WARNING", Level.CRITICAL: "CRITICAL"}[level]
    rule = f"rule {finding.rule}"
    if finding.warning or finding.critical:
        rule += f": a warning above {finding.warning:g}, critical above {finding.critical:g}"
    lines = [finding.text, rule, f"before: {told}"]
    subject = f"[hareline] {word}: {where}, {finding.text}"
    return Notice.of(
        str(uuid7()), kind, level, finding.queue, finding.rule, subject, tuple(lines), tx.now.isoformat("T", "seconds")
    )


# -- dead letters


def note_dead(control: Control, counted: Mapping[tuple[str, str, str, str], tuple[int, str]], *, by: By) -> None:
    """Add dead letters to those that nobody was told of.

    Parameters:
      counted: by (queue, actor, reason, error): how many, and the last one's id.
    """

    def verb(tx: Transaction) -> None:
        _lock(tx)
        for key in sorted(counted):
            number, job = counted[key]
            queue, actor, reason, error = key
            mine = (
                (dead_notes.c.queue == queue)
                & (dead_notes.c.actor == actor)
                & (dead_notes.c.reason == reason)
                & (dead_notes.c.error == error)
            )
            more = update(dead_notes).where(mine).values(number=dead_notes.c.number + number, last_job=job)
            if not tx.connection.execute(more).rowcount:
                named = {"queue": queue, "actor": actor, "reason": reason, "error": error}
                new = insert(dead_notes).values(**named, number=number, first_at=tx.now, last_job=job)
                tx.connection.execute(new)

    control.run(verb, by=by)


def digest(control: Control, to: Collection[str], *, every_s: float, by: By = DUTY) -> Notice | None:
    """One notice of all dead letters that nobody was told of, once the first of them is old enough."""

    def verb(tx: Transaction) -> Notice | None:
        _lock(tx)
        first: datetime | None = tx.connection.scalar(select(func.min(dead_notes.c.first_at)))
        if first is None or (tx.now - first).total_seconds() < every_s:
            return None
        rows = tx.connection.execute(select(dead_notes).order_by(dead_notes.c.number.desc())).all()
        tx.connection.execute(delete(dead_notes))
        notice = _digest(tx, rows)
        _post(tx, notice, to)
        return notice

    return control.run(verb, by=by)


def _digest(tx: Transaction, rows: Sequence[Row[Any]]) -> Notice:
    total = sum(row.number for row in rows)
    queues = sorted({row.queue for row in rows})
    named = [
        f"{row.number:,} of {row.actor or 'no known actor'} on {row.queue}: {row.error or row.reason}; the last is "
        f"{row.last_job}"
        for row in rows[:NAMED]
    ]
    if len(rows) > NAMED:
        named.append(f"and {sum(row.number for row in rows[NAMED:]):,} of {len(rows) - NAMED} other kinds")
    where = f"queue {queues[0]}" if len(queues) == 1 else f"{len(queues)} queues"
    subject = f"[hareline] {total:,} dead letter{'s' if total != 1 else ''} on {where}"
    queue = queues[0] if len(queues) == 1 else ""
    at = tx.now.isoformat("T", "seconds")
    return Notice.of(str(uuid7()), "dead letters", "warning", queue, "dead", subject, tuple(named), at)


# -- delivering


def deliver(control: Control, to: Mapping[str, Destination], *, by: By = DUTY) -> int:
    """Try what is due; returns how many were delivered.  Whoever else delivers at the same time takes others."""
    count = 0
    while (taken := control.run(lambda tx: _take(tx, to), by=by)) is not None:
        id, destination, body, tries = taken
        error = _try(to[destination], Notice.read(body))
        count += not error
        control.run(lambda tx, i=id, d=destination, e=error, n=tries: _settle(tx, i, d, e, n), by=by)  # type: ignore[misc]
    return count


def try_out(to: Mapping[str, Destination], now: datetime) -> dict[str, str]:
    """Tell each of these something now; what went wrong, by destination, empty where nothing did."""
    lines = ("this is a test; nothing is wrong",)
    notice = Notice.of(
        str(uuid7()), "test", "ok", "", "test", "[hareline] a test of alerts", lines, now.isoformat("T", "seconds")
    )
    return {name: _try(destination, notice) for name, destination in to.items()}


def _take(tx: Transaction, to: Mapping[str, Destination]) -> tuple[str, str, str, int] | None:
    due = (
        select(deliveries)
        .where(deliveries.c.due_at <= tx.now, deliveries.c.destination.in_(list(to)))
        .order_by(deliveries.c.due_at)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    row = tx.connection.execute(due).one_or_none()
    if row is None:
        _give_up(tx)
        return None
    # The next try is written before this one: a process that dies meanwhile, or whose answer is lost, is no loop.
    pause_s = min(PAUSE_S[1], PAUSE_S[0] * 2**row.tries)
    mine = deliveries.c.id == row.id
    tx.connection.execute(
        update(deliveries).where(mine).values(tries=row.tries + 1, due_at=tx.now + timedelta(seconds=pause_s))
    )
    return row.id, row.destination, row.body, row.tries + 1


def _try(destination: Destination, notice: Notice) -> str:
    try:
        destination(notice)
    except Exception as error:  # whatever a server or its TLS came up with
        return line(str(error) or type(error).__name__, 300)
    return ""


def _settle(tx: Transaction, id: str, destination: str, error: str, tries: int) -> None:
    values: dict[str, Any] = {"error": error}
    if not error:
        values |= {"due_at": None, "delivered_at": tx.now}
    elif tries >= TRIES:
        values |= {"due_at": None}
        logger.error("notice %s is given up: %s failed %d times, at last: %s", id, destination, tries, error)
        tx.note(None, "alert given up", {"delivery": id, "destination": destination, "error": error}, deed=False)
    tx.connection.execute(update(deliveries).where(deliveries.c.id == id).values(**values))


def _give_up(tx: Transaction) -> None:
    """Forget what is old; what was still to be delivered is for a destination that was removed, or nobody delivers."""
    old = delete(deliveries).where(deliveries.c.created_at < tx.now - KEPT)
    for row in tx.connection.execute(old.returning(deliveries.c.id, deliveries.c.destination, deliveries.c.due_at)):
        if row.due_at is not None:
            why = f"it could not be delivered in {KEPT.days} days; is the destination still configured?"
            logger.error("notice %s to %s is given up: %s", row.id, row.destination, why)
            told = {"delivery": row.id, "destination": row.destination, "error": why}
            tx.note(None, "alert given up", told, deed=False)


def _post(tx: Transaction, notice: Notice, to: Collection[str]) -> None:
    rows = [
        {"id": str(uuid7()), "destination": name, "body": notice.body(), "created_at": tx.now, "due_at": tx.now}
        for name in to
    ]
    if rows:
        tx.connection.execute(insert(deliveries), rows)


def _lock(tx: Transaction) -> None:
    """One at a time.  On SQLite the transaction is the lock."""
    if not tx.sqlite:
        tx.connection.execute(select(func.pg_advisory_xact_lock(func.hashtextextended("hareline.alerts", 0))))


# -- operators


def mute(control: Control, queue: str, rule: str, for_s: float, *, by: By) -> None:
    """Tell nothing of this for so long; 0 ends that.  What is different then from what was told last is told.

    Parameters:
      queue: empty for what is of the whole system.
    """
    if rule not in HEALTH:
        raise BadInput(f"there is no rule {rule!r}; the rules are {', '.join(HEALTH)}")

    def verb(tx: Transaction) -> None:
        tx.scope.demand(queue)
        _lock(tx)
        mine = (alerts.c.queue == queue) & (alerts.c.rule == rule)
        until = tx.now + timedelta(seconds=for_s) if for_s else None
        muting = {"muted_until": until, "muted_by": tx.by if for_s else None}
        muted = tx.connection.scalar(select(alerts.c.muted_until).where(mine).with_for_update())
        if muted is None and not for_s:
            return
        if not tx.connection.execute(update(alerts).where(mine).values(**muting)).rowcount and for_s:
            key = {"queue": queue, "rule": rule}
            tx.connection.execute(
                insert(alerts).values(**key, level="ok", value=0.0, text="", since=tx.now, told="ok", **muting)
            )
        tx.note(
            None,
            "alert muted" if for_s else "alert unmuted",
            {"queue": queue, "rule": rule, "for_s": for_s, "was": muted},
        )

    control.run(verb, by=by)


def listing(queries: Queries) -> list[AlertView]:
    """What is not well, or is muted; the worst first."""
    return queries.alerts()


def history(queries: Queries, limit: int = 50) -> list[AlertChange]:
    """What became worse or better lately, newest first."""
    return queries.alert_changes(limit)


def recent(queries: Queries, limit: int = 50) -> list[DeliveryView]:
    """What was told lately, and what is still to be, newest first."""
    return queries.deliveries(limit)

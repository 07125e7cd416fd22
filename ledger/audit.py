"""The audit trail: who did what, each entry bound to the one before it by a hash.

An entry's hash is SHA-256 over the hash before it and the entry as canonical JSON.  So nothing in the middle can be
changed, left out or put in another order without all hashes after it being made anew.  Who can write to the database
can do that, too, and can cut the end off: only a hash that is kept elsewhere tells (``hareline audit verify --head``).
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any, Final, Literal

from sqlalchemy import Connection, func, insert, select

from ledger.instants import to_micros
from ledger.redact import redacted
from ledger.tables import audit, audit_anchors
from ledger.text import clean
from ledger.who import By, Who

#: The hash before the first entry.
GENESIS: Final = "0" * 64
#: At most so many things are named in one entry, and so many characters of each value; the count is always right.
NAMED, LONGEST = 20, 200

Result = Literal["done", "refused", "failed"]

#: What a line of the journal may name.
_NAMES: Final = (
    "queue",
    "limit",
    "rule",
    "key",
    "circuit",
    "migration",
    "schedule",
    "flow",
    "follower",
    "worker",
    "alert",
    "operation",
    "fingerprint",
)
#: The journal's words, as operations: for who came by no HTTP request.
_OPERATIONS: Final[Mapping[str, str]] = {
    "retried": "retry_job",
    "cancelled": "cancel_job",
    "cancel_requested": "cancel_job",
    "removed": "remove_job",
    "discarded": "discard_failures",
    "revealed": "reveal_job_payload",
    "paused": "pause_queue",
    "draining": "drain_queue",
    "cleaned": "clean_queue",
    "worker quieted": "quiet_worker",
    "worker resumed": "resume_worker",
    "worker stopped": "stop_worker",
    "alert muted": "mute_alert",
    "alert unmuted": "unmute_alert",
    "resumed": "resume_queue",
    "limit changed": "change_limit",
    "limit restored": "restore_limit",
    "limit released": "release_limit",
    "circuit opened": "open_circuit",
    "circuit closed": "close_circuit",
    "migration share changed": "share_migration",
    "migration mode changed": "switch_migration",
    "migration reset": "reset_migration",
    "migration forgotten": "forget_migration",
    "schedule added": "put_schedule",
    "schedule changed": "put_schedule",
    "schedule left out": "put_schedule",
    "schedule paused": "pause_schedule",
    "schedule resumed": "resume_schedule",
    "schedule removed": "remove_schedule",
    "schedule run": "run_schedule",
    "flow cancelled": "cancel_flow",
    "flow retried": "retry_flow",
    "flow signalled": "signal_flow",
    "follower moved": "seek_follower",
    "follower forgotten": "forget_follower",
    "feed off": "stop_feed",
    "keys rotated": "rotate_keys",
    "rebuilt": "rebuild_messages",
    "edited": "edit_job",
    "operation cancelled": "cancel_operation",
    "failure acknowledged": "acknowledge_failure",
    "failure snoozed": "snooze_failure",
}


@dataclass(frozen=True)
class Deed:
    """What somebody did, or was refused."""

    operation: str  #: as in control/permissions.py
    target: Mapping[str, Any]  #: what it was done to: a filter, names, or ids, of which there may be more
    count: int = 1  #: to how many
    change: Sequence[Mapping[str, Any]] = ()  #: what there was, and what it was made
    result: Result = "done"


@dataclass(frozen=True)
class Entry:
    """One line of the trail."""

    seq: int
    at: datetime
    name: str
    via: str
    role: str
    token: str
    address: str
    request: str
    operation: str
    target: str  #: JSON
    count: int
    change: str  #: JSON
    result: str
    hash: str

    def sealed(self, before: str) -> str:
        """Its hash, after an entry with that one."""
        told = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "hash"}
        told["at"] = to_micros(self.at)
        text = json.dumps(told, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(f"{before}\n{text}".encode("ascii")).hexdigest()


def of_notes(by: By, notes: Iterable[tuple[str | None, str, Mapping[str, Any]]]) -> list[Deed]:
    """What lines of the journal, as (job, event, detail), tell of: one deed for each event."""
    operation = by.operation if isinstance(by, Who) else ""
    found: dict[str, list[tuple[str | None, Mapping[str, Any]]]] = {}
    for job, event, detail in notes:
        found.setdefault(str(event), []).append((job, detail))
    deeds = []
    for event, told in found.items():
        jobs = [job for job, _ in told if job is not None]
        target: dict[str, Any] = {"jobs": jobs} if jobs else _identity([detail for _, detail in told])
        change = [{"did": event, **detail} for _, detail in told]
        deeds.append(Deed(operation or _OPERATIONS.get(event, event), target, len(told), change))
    return deeds


def chain(before: tuple[int, str], deeds: Iterable[Deed], by: By, at: datetime) -> Iterator[Entry]:
    """Entries that go on from the last one, by its number and hash."""
    seq, hash = before
    who = by if isinstance(by, Who) else _named(by)
    for deed in deeds:
        seq += 1
        open_ = Entry(
            seq=seq,
            at=at,
            name=_short(who.name),
            via=_short(who.via),
            role=_short(who.role),
            token=_short(who.token),
            address=_short(who.address),
            request=_short(who.request),
            operation=_short(deed.operation),
            target=_json(dict(deed.target)),
            count=deed.count,
            change=_json([_without_secrets(item) for item in deed.change]),
            result=deed.result,
            hash="",
        )
        hash = open_.sealed(hash)
        yield replace(open_, hash=hash)


def append(connection: Connection, deeds: Sequence[Deed], by: By, at: datetime) -> None:
    """Put deeds down, last in their transaction: what it locks is the last of all locks."""
    if not deeds:
        return
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(func.hashtextextended("hareline.audit", 0))))
    rows = [_values(entry) for entry in chain(head(connection), deeds, by, at)]
    connection.execute(insert(audit), rows)


def head(connection: Connection) -> tuple[int, str]:
    """Number and hash of the last entry."""
    last = connection.execute(select(audit.c.seq, audit.c.hash).order_by(audit.c.seq.desc()).limit(1)).one_or_none()
    if last is None:
        return anchor(connection)
    return last.seq, last.hash


def anchor(connection: Connection) -> tuple[int, str]:
    """Number and hash of the last entry that was cut off from the beginning."""
    last = select(audit_anchors).order_by(audit_anchors.c.seq.desc()).limit(1)
    row = connection.execute(last).one_or_none()
    return (0, GENESIS) if row is None else (row.seq, row.hash)


def _values(entry: Entry) -> dict[str, Any]:
    return {field.name: getattr(entry, field.name) for field in fields(entry)}


def _named(by: str) -> Who:
    via, colon, name = by.partition(":")
    return Who(name, via) if colon else Who(by, "")


def _identity(details: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What all these lines name: once where they agree, else the list of it."""
    found: dict[str, Any] = {}
    for key in _NAMES:
        if all(key in detail for detail in details):
            named = list(dict.fromkeys(str(detail[key]) for detail in details))
            found[key] = named if len(named) > 1 else details[0][key]
    return found


def _short(text: str) -> str:
    return clean(text)[:LONGEST]


def _without_secrets(value: Any) -> Any:
    """As what may be shown, also where it is JSON in a text, as a schedule's definition is."""
    if isinstance(value, Mapping):
        return redacted({str(key): _without_secrets(item) for key, item in value.items()})
    if isinstance(value, str) and value.startswith("{"):
        with suppress(ValueError, RecursionError):
            return json.dumps(redacted(json.loads(value)))
    return redacted(value)


def _json(value: Any) -> str:
    return clean(json.dumps(_bounded(value), default=str, sort_keys=True))


def _bounded(value: Any) -> Any:
    """The same, with lists and texts that are too long cut."""
    if isinstance(value, str):
        return value if len(value) <= LONGEST else value[:LONGEST] + "…"
    if isinstance(value, Mapping):
        return {str(key)[:LONGEST]: _bounded(item) for key, item in list(value.items())[:NAMED]}
    if isinstance(value, (list, tuple, set, frozenset)):
        listed = list(value)
        more = [f"… and {len(listed) - NAMED} more"] if len(listed) > NAMED else []
        return [*(_bounded(item) for item in listed[:NAMED]), *more]
    return value

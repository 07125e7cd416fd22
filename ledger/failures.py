"""Dead letters that are one trouble: grouped by what failed, where in the project, and with which words."""

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import Connection, Row, func, select, text, true, union_all

from ledger.redact import redacted_text
from ledger.tables import failure_groups, failures
from ledger.times import bucket

#: Of the newest so many failures of a window groups are made.
MOST_FAILURES = 100_000
_LONGEST = 300
_TOGETHER = 50
_ASKED = 1_000

_ROOT = Path(__file__).parent.parent
_FRAME = re.compile(r'^\s*File "(?P<file>[^"]+)", line \d+, in (?P<name>.+)$', re.MULTILINE)
_FOREIGN = re.compile(r"site-packages|dist-packages|/lib/python\d|^<")
_OURS = frozenset({"middleware", "broker", "ledger", "rabbitmq", "embedded", "control", "errors.py", "failpoints.py"})
_VARYING = (
    (re.compile(r"hareline-sealed:\S+"), "<encrypted>"),
    (re.compile(r"\b[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}\b", re.I), "<id>"),
    (re.compile(r"\"(?:[^\"\\]|\\.)*\"|(?<!\w)'(?:[^'\\]|\\.)*'|`[^`]*`"), "<text>"),
    (re.compile(r"\b0x[0-9a-f]+\b", re.I), "<n>"),
    (re.compile(r"\b(?=[0-9a-f]*\d)(?=[0-9a-f]*[a-f])[0-9a-f]{12,}\b", re.I), "<id>"),
    (re.compile(r"\d+(?:[.,:]\d+)*"), "<n>"),
    (re.compile(r"\s+"), " "),
)

GroupState = Literal["open", "acknowledged", "snoozed"]


@dataclass(frozen=True)
class Fingerprint:
    """What failures of one group have in common."""

    error_type: str  #: or, without an error, why it is a dead letter
    frame: str  #: ``actors/usage.py in charge``; empty when there is no traceback
    message: str  #: without numbers, ids and quoted texts

    @property
    def id(self) -> str:
        said = "\x00".join((self.error_type, self.frame, self.message))
        return hashlib.sha256(said.encode("utf-8", "replace")).hexdigest()[:16]


@dataclass(frozen=True)
class FailureGroup:
    """Dead letters of one fingerprint, as far as they failed in a window."""

    fingerprint: str
    error_type: str
    frame: str
    message: str
    count: int  #: in the window, of those that are still dead letters
    first_at: datetime  #: of the group, ever
    last_at: datetime
    actors: Sequence[str]  #: most often first
    queues: Sequence[str]
    sample: str  #: the id of its newest job
    trend: Sequence[int]  #: failures in equal parts of the window, oldest first
    since: datetime  #: the window …
    until: datetime
    more: bool  #: … had more failures than were looked at: of its oldest part nothing is counted
    state: GroupState = "open"
    acknowledged_by: str | None = None
    snoozed_until: datetime | None = None


def fingerprint(error_type: str | None, message: str | None, traceback: str | None, reason: str) -> Fingerprint:
    """Of an attempt's error, or of a dead letter that has none."""
    said = redacted_text((message or "")[: 4 * _LONGEST])
    for pattern, instead in _VARYING:
        said = pattern.sub(instead, said)
    return Fingerprint(error_type or reason, _frame(traceback or ""), said.strip()[:_LONGEST])


def _frame(traceback: str) -> str:
    """The innermost frame of the project; of a chain, of the last error first."""
    frames = [(found["file"].replace("\\", "/"), found["name"]) for found in _FRAME.finditer(traceback)]
    if not frames:
        return ""
    of_project = [(file, name) for file, name in frames if not _FOREIGN.search(file) and not _is_ours(file)]
    file, name = (of_project or frames)[-1]
    return f"{_short(file)} in {name.strip()}"[:_LONGEST]


def _is_ours(file: str) -> bool:
    root = f"{_ROOT.as_posix()}/"
    return file.startswith(root) and file.removeprefix(root).split("/")[0] in _OURS


def _short(file: str) -> str:
    root = f"{_ROOT.as_posix()}/"
    return file.removeprefix(root) if file.startswith(root) else "/".join(file.split("/")[-3:])


def known(connection: Connection, fingerprint: str) -> bool:
    """Whether there ever was such a group."""
    here = select(failure_groups.c.fingerprint).where(failure_groups.c.fingerprint == fingerprint)
    return connection.scalar(here) is not None


def groups(
    connection: Connection,
    *,
    since: datetime,
    until: datetime,
    now: datetime,
    queues: Sequence[str] | None,
    actor: str | None,
    only: str | None,
    state: GroupState | None,
    limit: int,
    buckets: int,
) -> list[FailureGroup]:
    """The groups with the most failures in a window, those first."""
    newest = select(failures).where(failures.c.at >= since, failures.c.at < until)
    if queues is not None:
        newest = newest.where(failures.c.queue.in_(queues))
    if actor is not None:
        newest = newest.where(failures.c.actor == actor)
    if only is not None:
        newest = newest.where(failures.c.fingerprint == only)
    some = newest.order_by(failures.c.at.desc()).limit(MOST_FAILURES).subquery()
    width = max(1.0, (until - since).total_seconds()) / buckets
    part = bucket(some.c.at, since, width).label("part")
    counted, seen = Counter[str](), 0
    last: dict[str, datetime] = {}
    actors: dict[str, Counter[str]] = defaultdict(Counter)
    of_queues: dict[str, Counter[str]] = defaultdict(Counter)
    trends: dict[str, list[int]] = defaultdict(lambda: [0] * buckets)
    columns = (some.c.fingerprint, some.c.queue, some.c.actor, part)
    # By their places: what a bucket is made of comes as parameters, which PostgreSQL would not see to be the same.
    by = (text(str(n)) for n in range(1, 5))
    for row in connection.execute(
        select(*columns, func.count().label("number"), func.max(some.c.at).label("at")).group_by(*by)
    ):
        counted[row.fingerprint] += row.number
        seen += row.number
        last[row.fingerprint] = max(row.at, last.get(row.fingerprint, row.at))
        actors[row.fingerprint][row.actor] += row.number
        of_queues[row.fingerprint][row.queue] += row.number
        trends[row.fingerprint][min(buckets - 1, max(0, row.part))] += row.number
    found = []
    for group in _known(connection, [fp for fp, _ in counted.most_common()], state):
        fp = group.fingerprint
        standing = _standing(group, last[fp], now)
        if state not in (None, standing):
            continue
        found.append(
            FailureGroup(
                fingerprint=fp,
                error_type=group.error_type,
                frame=group.frame,
                message=group.message,
                count=counted[fp],
                first_at=group.first_at,
                last_at=last[fp],
                actors=[name for name, _ in actors[fp].most_common(10)],
                queues=[name for name, _ in of_queues[fp].most_common(10)],
                sample="",
                trend=trends[fp],
                since=since,
                until=until,
                more=seen >= MOST_FAILURES,
                state=standing,
                acknowledged_by=group.acknowledged_by,
                snoozed_until=group.snoozed_until,
            )
        )
        if len(found) == limit:
            break
    samples = _newest(connection, [group.fingerprint for group in found])
    return [replace(group, sample=samples.get(group.fingerprint, "")) for group in found]


def _known(connection: Connection, fingerprints: Sequence[str], state: GroupState | None) -> Iterator[Row[Any]]:
    """What is kept of those that may be in that state, in order: asked for in parts, as there may be too many."""
    marked = {"acknowledged": failure_groups.c.acknowledged_at, "snoozed": failure_groups.c.snoozed_until}
    may_be = marked[state].is_not(None) if state in marked else true()
    for start in range(0, len(fingerprints), _ASKED):
        some = fingerprints[start : start + _ASKED]
        wanted = select(failure_groups).where(failure_groups.c.fingerprint.in_(some), may_be)
        rows = {row.fingerprint: row for row in connection.execute(wanted)}
        yield from (rows[fp] for fp in some if fp in rows)


def _newest(connection: Connection, fingerprints: Sequence[str]) -> dict[str, str]:
    """The newest job of each group."""
    found: dict[str, str] = {}
    columns = (failures.c.fingerprint, failures.c.job_id)
    for start in range(0, len(fingerprints), _TOGETHER):
        some = fingerprints[start : start + _TOGETHER]
        each = [
            select(*columns).where(failures.c.fingerprint == one).order_by(failures.c.job_id.desc()).limit(1).subquery()
            for one in some
        ]
        rows = connection.execute(union_all(*(select(one.c.fingerprint, one.c.job_id) for one in each)))
        found |= {row.fingerprint: row.job_id for row in rows}
    return found


def _standing(row: Row[Any], last_at: datetime, now: datetime) -> GroupState:
    """What was acknowledged is open again once it fails anew."""
    if row.snoozed_until is not None and row.snoozed_until > now:
        return "snoozed"
    acknowledged = row.acknowledged_at is not None and row.acknowledged_at >= last_at
    return "acknowledged" if acknowledged else "open"

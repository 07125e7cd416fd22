"""How jobs are found: by id, newest or oldest first, in the hot table and in the history as if they were one.

A question is split into branches, one for each table, state, queue or actor it is about, so that each walks an index
in the order of ids and ends after a page (docs/decisions/).  A branch about errors, a worker or words walks the index
of those, and looks up the job.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from itertools import product
from time import monotonic
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    Select,
    Subquery,
    Table,
    and_,
    exists,
    false,
    func,
    literal,
    or_,
    select,
    text,
    union_all,
)
from sqlalchemy.exc import OperationalError

from errors import QuestionTooSlow
from ledger.engine import Database
from ledger.lookup import find
from ledger.scope import Scope
from ledger.search import TEXT_DAYS, Bounded, Filter
from ledger.states import FINISHED, State
from ledger.tables import attempts, claims, failure_groups, failures, history, jobs, search_texts
from ledger.words import has_words, wanted_words

#: A search or a count is given up after so long.
TIMEOUT_S = 2.0
#: Producers' clocks, which are in the ids, may be off by as much; ``created_at`` decides.
_SKEW = timedelta(days=1)
_BRANCHES = 24
_SLICE = 20_000
_HOT_WALK = 1_000_000


@contextmanager
def asking(database: Database, timeout_s: float = TIMEOUT_S) -> Iterator[Connection]:
    """A consistent view that is given up when a statement takes too long.  Raises ``QuestionTooSlow``."""
    slow = QuestionTooSlow(
        f"the ledger had no answer within {timeout_s:g} s; narrow the question: a queue, an actor, a state, or since:1d"
    )
    with database.read() as connection:
        raw: Any = connection.connection.driver_connection
        if database.sqlite:
            deadline = monotonic() + timeout_s
            raw.set_progress_handler(lambda: int(monotonic() > deadline), 10_000)
        else:
            connection.execute(text(f"SET LOCAL statement_timeout = {int(timeout_s * 1000)}"))
            if not database.joins:
                # What is asked of is warm, or on a disk that has no head to move: pages one by one, not whole tables.
                connection.execute(text("SET LOCAL jit = off; SET LOCAL random_page_cost = 1.1"))
        try:
            yield connection
        except OperationalError as error:
            told = getattr(error.orig, "sqlstate", None) == "57014" or str(error.orig) == "interrupted"
            if told:
                raise slow from error
            raise
        else:
            if database.joins and not database.sqlite:
                connection.execute(text("SET LOCAL statement_timeout TO DEFAULT"))
        finally:
            if database.sqlite:
                raw.set_progress_handler(None, 0)


@dataclass(frozen=True)
class Range:
    """Which ids: all, or those after one, up to one."""

    after: str | None = None  #: beyond this one, in the order asked for
    upto: str | None = None  #: not beyond this one
    ascending: bool = False
    slice: int | None = None  #: look at so many of those who drive the question

    def driver(
        self, table: Table, fits: Callable[[FromClause], ColumnElement[bool]], *where: ColumnElement[bool]
    ) -> Subquery:
        """The ids of jobs in a table that drives a question."""
        where = (*self.holds(table.c.job_id), *where)
        if self.slice is None:
            # Kept apart: else the planner walks in the order of the page, and hopes for what is rare.
            return select(table.c.job_id).where(*where, fits(table)).offset(0).subquery()
        some = select(table).where(*where).order_by(self.order(table.c.job_id)).limit(self.slice).subquery()
        return select(some.c.job_id).where(fits(some)).subquery()

    def holds(self, column: ColumnElement[Any]) -> list[ColumnElement[bool]]:
        conditions = []
        if self.after is not None:
            conditions.append(column > self.after if self.ascending else column < self.after)
        if self.upto is not None:
            conditions.append(column <= self.upto if self.ascending else column >= self.upto)
        return conditions

    def order(self, column: ColumnElement[Any]) -> ColumnElement[Any]:
        return column.asc() if self.ascending else column.desc()


def ids(connection: Connection, wanted: Filter, range: Range, limit: int, now: datetime) -> list[str]:
    """Of the jobs that fit, the first ``limit`` of a range, in its order."""
    # What is common is found among the next few thousand; only what is rare is worth asking its own index for.
    if _drives(wanted) in ("text", "failure"):
        found = _first(connection, _branches(connection, wanted, replace(range, slice=_SLICE), now), range, limit)
        if len(found) == limit:
            return found
    return _first(connection, _branches(connection, wanted, range, now), range, limit)


def _first(connection: Connection, branches: Sequence[Select[Any]], range: Range, limit: int) -> list[str]:
    if not branches:
        return []
    parts = [branch.limit(limit).subquery() for branch in branches]
    found = union_all(*(select(part.c.id) for part in parts)).subquery()
    return list(connection.scalars(select(found.c.id).order_by(range.order(found.c.id)).limit(limit)))


def count(connection: Connection, wanted: Filter, most: int, now: datetime) -> Bounded:
    parts = [b.order_by(None).limit(most + 1).subquery() for b in _branches(connection, wanted, Range(), now)]
    if not parts:
        return Bounded(0)
    found = union_all(*(select(literal(1).label("one")).select_from(part) for part in parts)).limit(most + 1).subquery()
    return _bounded(connection.scalar(select(func.count()).select_from(found)) or 0, most)


def counts(connection: Connection, wanted: Filter, most: int, now: datetime) -> dict[State, Bounded]:
    """Of every state: a walk over the hot table, and a bounded count of each in the history."""
    asked = [state for state in State if not wanted.states or state in wanted.states]
    if _is_driven(wanted):
        return {state: count(connection, replace(wanted, states=(state,)), most, now) for state in asked}
    whole = _wanted(connection, wanted, now)
    found, cut = _hot_counts(connection, whole) if whole is not None else (Counter[State](), set[State]())
    past = []
    for state in FINISHED.intersection(asked):
        branches = _branches(connection, replace(wanted, states=(state,)), Range(), now, hot=False)
        parts = [branch.order_by(None).limit(most + 1).subquery() for branch in branches]
        if parts:
            rows = union_all(*(select(literal(1).label("one")).select_from(p) for p in parts)).limit(most + 1)
            number = select(func.count()).select_from(rows.subquery()).scalar_subquery()
            past.append(select(literal(str(state)), number))
    for state, number in connection.execute(union_all(*past)) if past else ():
        found[State(state)] += number
    return {state: Bounded(min(found[state], most), found[state] > most or state in cut) for state in asked}


def _hot_counts(connection: Connection, whole: Filter) -> tuple[Counter[State], set[State]]:
    """Of each state in the hot table, and the states of which there may be more.

    A walk over it ends somewhere; if it has, what has an index to itself is counted by that.
    """
    found = _walked(connection, whole, jobs, ())
    if found.total() < _HOT_WALK:
        return found, set()
    cut = {State.WAITING, State.DELAYED}
    for states in (_ACTIVE, _DONE, _DEAD):
        few = _few(states, whole.queues)
        assert few is not None, "these have one"
        counted = _walked(connection, whole, few, states)
        found |= counted  # the larger one: of these the walk saw a part
        cut |= set(states) if counted.total() == _HOT_WALK else set()
    return found, cut


def _walked(connection: Connection, whole: Filter, source: FromClause, states: tuple[State, ...]) -> Counter[State]:
    fits = _conditions(whole, source, whole.queues, whole.actors, states)
    walk = select(source.c.state).where(*fits).limit(_HOT_WALK).subquery()
    rows = connection.execute(select(walk.c.state, func.count()).group_by(walk.c.state))
    return Counter({State(state): number for state, number in rows})


def names(connection: Connection, column: ColumnElement[str], table: FromClause) -> list[str]:
    """The distinct values of a column that is the first of an index: from one to the next, a probe each."""
    walk = select(func.min(column).label("name")).select_from(table).cte("walk", recursive=True)
    following = select(func.min(column)).select_from(table).where(column > walk.c.name).scalar_subquery()
    walk = walk.union_all(select(following).where(walk.c.name.is_not(None)))
    return list(connection.scalars(select(walk.c.name).where(walk.c.name.is_not(None))))


def queues(connection: Connection) -> list[str]:
    """Of all jobs, by name."""
    return sorted({*names(connection, jobs.c.queue, jobs), *names(connection, history.c.queue, history)})


def text_since(wanted: Filter, now: datetime) -> datetime | None:
    """From when on words are looked for; None when there are none."""
    if not wanted.is_text:
        return None
    return wanted.since or now - timedelta(days=TEXT_DAYS)


def _is_driven(wanted: Filter) -> bool:
    return bool(wanted.ids or wanted.fingerprint or wanted.error or wanted.is_text) or wanted.worker is not None


def _wanted(connection: Connection, wanted: Filter, now: datetime) -> Filter | None:
    """The filter with names for patterns, and what follows from its parts said; None: nothing can fit."""
    states = wanted.states or tuple(State)
    if wanted.reasons or wanted.fingerprint or wanted.error:
        states = tuple(state for state in states if state is State.FAILED)
    given: tuple[str, ...] = ()
    if wanted.queues or wanted.scopes:
        given = wanted.queues
        if wanted.scopes or any("*" in name for name in given):
            known = {*queues(connection), *(name for name in given if "*" not in name)}
            given = tuple(
                sorted(
                    name
                    for name in known
                    if (not wanted.queues or matches(name, wanted.queues))
                    and (not wanted.scopes or matches(name, wanted.scopes))
                )
            )
        if not given:
            return None
    if not states:
        return None
    return replace(wanted, states=states, queues=given, scopes=(), since=text_since(wanted, now) or wanted.since)


def matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern.replace("[", "[[]")) for pattern in patterns)


def _branches(
    connection: Connection, wanted: Filter, range: Range, now: datetime, *, hot: bool = True
) -> list[Select[Any]]:
    """Selects of ids, each in the range's order, which together find every job that fits once."""
    whole = _wanted(connection, wanted, now)
    if whole is None:
        return []
    named = (
        sorted({id for ref in wanted.ids if (id := find(connection, ref, Scope(wanted.scopes)))})
        if wanted.ids
        else None
    )
    if named == []:
        return []
    driver = _driver(whole, range, named)
    found = []
    for table in (jobs, history) if hot else (history,):
        states = [s for s in whole.states if table is jobs or s in FINISHED]
        if not states:
            continue
        for queues, actors, some in _split(whole, table, states, driver is not None):
            if driver is None:
                few = _few(some, queues) if table is jobs and named is None else None
                source: FromClause = table if few is None else few
                conditions = _conditions(whole, source, queues, actors, some, named)
                branch = select(source.c.id).where(*conditions, *range.holds(source.c.id))
                found.append(branch.order_by(range.order(source.c.id)))
            else:
                conditions = _conditions(whole, table, queues, actors, some, named)
                branch = select(table.c.id).join(driver, driver.c.job_id == table.c.id).where(*conditions)
                found.append(branch.order_by(range.order(driver.c.job_id)))
    return found


_DEAD = (State.FAILED,)
_DONE = (State.COMPLETED, State.CANCELLED)
_ACTIVE = (State.ACTIVE,)


def _hot_states(states: Sequence[State]) -> list[tuple[State, ...]]:
    """In parts that are found by themselves; what waits is found by a walk, with all others if those are wanted too."""
    if State.WAITING in states and State.DELAYED in states:
        return [tuple(states)]
    parts = ((State.WAITING, State.DELAYED), _ACTIVE, _DONE, _DEAD)
    return [some for part in parts if (some := tuple(state for state in part if state in states))]


def _few(states: tuple[State, ...], queues: tuple[str, ...]) -> Subquery | None:
    """Of the hot table's jobs in these states all, by an index that has only them; None: there is none.

    Kept apart (OFFSET 0): the planner would rather walk the whole table in the order of a page, and hope.
    """
    found = select(jobs)
    if states == _ACTIVE:
        found = found.join(claims, claims.c.job_id == jobs.c.id)
    elif states and (set(states) <= set(_DONE) or states == _DEAD):
        reason = jobs.c.reason.is_not(None) if states == _DEAD else jobs.c.reason.is_(None)
        found = found.where(jobs.c.finished_at.is_not(None), reason)
    else:
        return None
    return (found.where(jobs.c.queue.in_(queues)) if queues else found).offset(0).subquery()


_Split = tuple[tuple[str, ...], tuple[str, ...], tuple[State, ...]]


def _split(whole: Filter, table: Table, states: Sequence[State], driven: bool) -> list[_Split]:
    """One value of each column of an index that ends with the id; all at once where that would be too many."""
    together: list[_Split] = [(whole.queues, whole.actors, tuple(states))]
    if driven or whole.ids:
        return together
    apart: list[tuple[str, ...]] = [(queue,) for queue in whole.queues] or [()]
    if table is jobs:
        walked = [part for part in _hot_states(states) if State.WAITING in part or State.DELAYED in part]
        few = [part for part in _hot_states(states) if part not in walked]
        queues = apart if len(apart) <= _BRANCHES else [whole.queues]
        split: list[_Split] = [(q, whole.actors, s) for q, s in product(queues, walked)]
        return split + [(whole.queues, whole.actors, s) for s in few]
    by_state = [(state,) for state in states]
    if not whole.queues:
        actors: list[tuple[str, ...]] = [(actor,) for actor in whole.actors] or [()]
        split = [((), a, s) for a, s in product(actors, by_state)]
    else:
        split = [(q, whole.actors, s) for q, s in product(apart, by_state)]
    return split if len(split) <= 2 * _BRANCHES else together


def _conditions(
    whole: Filter,
    table: FromClause,
    queues: tuple[str, ...],
    actors: tuple[str, ...],
    states: tuple[State, ...],
    named: Sequence[str] | None = None,
) -> list[ColumnElement[bool]]:
    conditions = [
        _one_of(table.c[name], values)
        for name, values in (("queue", queues), ("actor", actors), ("reason", whole.reasons))
        if values
    ]
    if states and (table is history or len(states) < len(State)):
        conditions.append(_one_of(table.c.state, states))
    if named is not None:
        conditions.append(table.c.id.in_(named))
    if whole.since is not None:
        conditions += [table.c.created_at >= whole.since, table.c.id >= id_at(whole.since - _SKEW)]
    if whole.until is not None:
        conditions += [table.c.created_at < whole.until, table.c.id < id_at(whole.until + _SKEW)]
    # What does not drive the branch is looked up for each job.
    if whole.worker is not None and _drives(whole) != "worker":
        conditions.append(exists().where(attempts.c.job_id == table.c.id, attempts.c.worker_id == whole.worker))
    if whole.is_text and _drives(whole) != "text":
        conditions.append(
            exists().where(search_texts.c.job_id == table.c.id, has_words(search_texts.c.words, wanted_words(whole)))
        )
    if (whole.fingerprint or whole.error) and _drives(whole) != "failure":
        conditions.append(exists().where(failures.c.job_id == table.c.id, _group_fits(whole, failures)))
    return conditions


def _drives(whole: Filter) -> str:
    if whole.ids:
        return "ids"
    if whole.fingerprint or whole.error:
        return "failure"
    if whole.worker is not None:
        return "worker"
    return "text" if whole.is_text else ""


def _driver(whole: Filter, range: Range, named: Sequence[str] | None) -> Subquery | None:
    match _drives(whole):
        case "failure":
            of_queues = [failures.c.queue.in_(whole.queues)] if whole.queues else []
            return range.driver(failures, lambda dead: _group_fits(whole, dead), *of_queues)
        case "worker":
            tried, held = (
                select(table.c.job_id).where(table.c.worker_id == whole.worker, *range.holds(table.c.job_id))
                for table in (attempts, claims)
            )
            # A job has several attempts; in the order of the index, those of one are beside each other.
            once = tried.distinct().order_by(range.order(attempts.c.job_id)).subquery()
            tried_too = exists().where(attempts.c.worker_id == whole.worker, attempts.c.job_id == claims.c.job_id)
            now = held.where(~tried_too).subquery()
            return union_all(select(once.c.job_id), select(now.c.job_id)).subquery()
        case "text":
            late = [search_texts.c.job_id >= id_at(whole.since - _SKEW)] if whole.since else []
            asked = wanted_words(whole)
            return range.driver(search_texts, lambda told: has_words(told.c.words, asked), *late)
    return None


def _group_fits(whole: Filter, dead: FromClause) -> ColumnElement[bool]:
    fits: list[ColumnElement[bool]] = []
    if whole.fingerprint:
        fits.append(dead.c.fingerprint == whole.fingerprint)
    if whole.error:
        part = whole.error.lower()
        columns = (failure_groups.c.error_type, failure_groups.c.message, failure_groups.c.frame)
        said = or_(*(func.lower(column).contains(part, autoescape=True) for column in columns))
        fits.append(dead.c.fingerprint.in_(select(failure_groups.c.fingerprint).where(said)))
    return and_(*fits) if fits else false()


def _one_of(column: ColumnElement[Any], values: Sequence[str]) -> ColumnElement[bool]:
    return column == str(values[0]) if len(values) == 1 else column.in_([str(value) for value in values])


def _bounded(number: int, most: int) -> Bounded:
    return Bounded(min(number, most), number > most)


def id_at(moment: datetime) -> str:
    """The lowest UUIDv7 of a moment."""
    ms = max(0, int(moment.timestamp() * 1000))
    return str(UUID(int=((ms & (2**48 - 1)) << 80) | (7 << 76) | (2 << 62)))

"""Dual writes in the ledger: how they are set, the pairs that wait for their jobs, and what was found."""

from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, delete, func, insert, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from ledger.dual import DifferenceView, DualWriteView, How, Mode, NewPair, Pair, Standing, Tally, Verdict
from ledger.engine import Database
from ledger.states import FINISHED, State
from ledger.tables import dual_differences, dual_pairs, dual_writes, history, jobs

#: So many of the last differences of each are kept.
KEPT = 100
#: A pair that its own process has left alone for so long is anybody's.
ABANDONED = timedelta(seconds=30)


class DualWrites:
    """What a process that writes twice asks and tells.  Thread-safe; no I/O until the first question.

    Every method is one transaction, and raises ``LedgerUnavailable``.
    """

    def __init__(self, url: str) -> None:
        self._database = Database(url)

    def standings(self, declared: Mapping[str, Standing]) -> dict[str, Standing]:
        """How these are set now; one that is new in the ledger is set as it was declared."""
        w = dual_writes.c
        wanted = select(w.name, w.mode, w.share).where(w.name.in_(declared))
        with self._database.read() as connection:
            found = {row.name: Standing(Mode(row.mode), row.share) for row in connection.execute(wanted)}
        if new := sorted(declared.keys() - found.keys()):
            insert_one = sqlite.insert if self._database.sqlite else postgresql.insert
            with self._database.write() as connection:
                now = self._database.time(connection)
                for name in new:
                    row = {"name": name, "mode": declared[name].mode, "share": declared[name].share, "changed_at": now}
                    connection.execute(insert_one(dual_writes).values(**row).on_conflict_do_nothing())
        return {**declared, **found}

    def tell(self, tallies: Mapping[str, Tally], pairs: Sequence[NewPair], owner: str) -> None:
        """Add to the counts, and keep what waits for its job."""
        if not tallies and not pairs:
            return
        with self._database.write() as connection:
            now = self._database.time(connection)
            self._count(connection, tallies)
            if pairs:
                rows = [
                    {"id": pair.id, "name": pair.name, "job_id": pair.job, "owner": owner, "result": pair.result}
                    | {"created_at": now, "look_at": now}
                    for pair in pairs
                ]
                connection.execute(insert(dual_pairs), rows)

    def ended(self, names: Collection[str], owner: str, limit: int) -> list[Pair]:
        """Pairs of these whose jobs have ended: the process's own, and those that theirs has left alone."""
        p, columns = dual_pairs.c, (dual_pairs.c.id, dual_pairs.c.name, dual_pairs.c.job_id, dual_pairs.c.result)
        with self._database.read() as connection:
            now = self._database.time(connection)
            wanted = (
                select(*columns, p.created_at, func.coalesce(jobs.c.state, history.c.state).label("state"))
                .select_from(dual_pairs)
                .join(jobs, jobs.c.id == p.job_id, isouter=True)
                .join(history, history.c.id == p.job_id, isouter=True)
                .where(p.name.in_(names), p.look_at <= now, or_(p.owner == owner, p.look_at <= now - ABANDONED))
                .where(or_(jobs.c.id.is_(None), jobs.c.state.in_(FINISHED)))
                .order_by(p.look_at)
                .limit(limit)
            )
            return [
                Pair(
                    row.id,
                    row.name,
                    row.job_id,
                    row.result,
                    None if row.state is None else State(row.state),
                    (now - row.created_at).total_seconds(),
                )
                for row in connection.execute(wanted)
            ]

    def settle(self, verdicts: Sequence[Verdict], later: Sequence[Pair], later_s: float) -> None:
        """Keep what was found, each once, whoever else has looked; others are looked at again."""
        if not verdicts and not later:
            return
        w, p = dual_writes.c, dual_pairs.c
        names = sorted({verdict.pair.name for verdict in verdicts})
        with self._database.write() as connection:
            now = self._database.time(connection)
            connection.execute(select(w.name).where(w.name.in_(names)).order_by(w.name).with_for_update()).all()
            ids = [verdict.pair.id for verdict in verdicts]
            ours = set(connection.scalars(delete(dual_pairs).where(p.id.in_(ids)).returning(p.id)))
            tallies: dict[str, Tally] = {}
            for verdict in (verdict for verdict in verdicts if verdict.pair.id in ours):
                tally = tallies.setdefault(verdict.pair.name, Tally())
                tally.counts[verdict.how] += 1
                tally.trouble = verdict.why or tally.trouble
                if verdict.how is How.DIFFERENT:
                    row = {"name": verdict.pair.name, "job_id": verdict.pair.job, "at": now}
                    row |= {"synchronous": verdict.synchronous, "asynchronous": verdict.asynchronous}
                    connection.execute(insert(dual_differences).values(**row))
            self._count(connection, tallies)
            self._forget_old(connection, names)
            again = {"look_at": now + timedelta(seconds=later_s)}
            connection.execute(update(dual_pairs).where(p.id.in_([pair.id for pair in later])).values(**again))

    def close(self) -> None:
        """Close idle connections."""
        self._database.close()

    def _count(self, connection: Connection, tallies: Mapping[str, Tally]) -> None:
        w, now = dual_writes.c, self._database.time(connection)
        for name, tally in sorted(tallies.items()):
            values: dict[str, Any] = {column: w[column] + count for column, count in tally.counts.items()}
            if tally.trouble:
                values |= {"trouble": tally.trouble, "trouble_at": now}
            connection.execute(update(dual_writes).where(w.name == name).values(**values))

    def _forget_old(self, connection: Connection, names: Collection[str]) -> None:
        d = dual_differences.c
        for name in names:
            newest = select(d.id).where(d.name == name).order_by(d.id.desc()).offset(KEPT - 1).limit(1)
            connection.execute(delete(dual_differences).where(d.name == name, d.id < newest.scalar_subquery()))


def report(connection: Connection) -> list[DualWriteView]:
    """All dual writes that any process has ever asked for, by name."""
    counts = connection.execute(select(dual_pairs.c.name, func.count()).group_by(dual_pairs.c.name))
    waiting: dict[str, int] = {name: count for name, count in counts}  # noqa: C416
    return [
        DualWriteView(
            name=row.name,
            mode=row.mode,
            share=row.share,
            sent=row.sent,
            compared=row.equal + row.different,
            equal=row.equal,
            different=row.different,
            missing=row.missing,
            error=row.errors,
            pending=waiting.get(row.name, 0),
            changed_at=row.changed_at,
            changed_by=row.changed_by,
            trouble=row.trouble,
            trouble_at=row.trouble_at,
        )
        for row in connection.execute(select(dual_writes).order_by(dual_writes.c.name))
    ]


def differences(connection: Connection, name: str, most: int) -> list[DifferenceView]:
    """The last calls of a dual write whose results differed, the newest first."""
    d = dual_differences.c
    wanted = select(d.job_id, d.at, d.synchronous, d.asynchronous).where(d.name == name)
    return [DifferenceView(*row) for row in connection.execute(wanted.order_by(d.id.desc()).limit(most))]

"""Keys on PostgreSQL: locked in their order, before any job's row."""

from collections.abc import Iterable

from ledger.keys import Holder, Plan, Replaced
from ledger.postgres.arrays import literal, moments, numbers, texts
from ledger.postgres.connection import Statements
from ledger.records import NewJob


def lock(cursor: Statements, jobs: Iterable[NewJob]) -> None:
    """Hold the keys of these jobs until the transaction ends.  Again, it does nothing.

    A finish calls it before it locks the rows of its jobs: a key is always locked before a job.
    """
    if keys := {job.key.digest: job.id for job in jobs if job.key is not None}:
        cursor.run("lock_keys", literal(keys), literal(keys.values()))


def decide(
    cursor: Statements, jobs: dict[str, NewJob], embedded: bool, publish_after_s: float
) -> tuple[Plan, Replaced]:
    """Who is to be inserted; who replaces another has done so, and the keys have their new holders."""
    keys = {job.key.digest: job.id for job in jobs.values() if job.key is not None}
    held = literal(keys)
    rows = cursor.run_after("holders", "lock_keys", (held,), (held, literal(keys.values())))
    known = {id for (id,) in cursor.run("known", literal(job.id for job in jobs.values() if job.key is not None))}
    plan = Plan(jobs.values(), {key: Holder(*row) for key, *row in rows}, known)
    replaced = _replace(cursor, plan.replace, embedded, publish_after_s) if plan.replace else {}
    for holder in plan.replace.keys() - replaced.keys():
        plan.started(holder)
    if taken := plan.taken():
        digests, holders, winners, within = zip(*taken, strict=True)
        cursor.run(
            "take_keys",
            literal(digests),
            literal(holders),
            literal(job.id for job in winners),
            texts(job.message_id for job in winners),
            literal("NULL" if ms is None else str(ms) for ms in within),
        )
    return plan, replaced


def _replace(cursor: Statements, jobs: dict[str, NewJob], embedded: bool, publish_after_s: float) -> Replaced:
    rows = cursor.run(
        "replace",
        literal(jobs),
        texts(job.message_id for job in jobs.values()),
        texts(job.queue for job in jobs.values()),
        numbers(job.priority for job in jobs.values()),
        [job.body for job in jobs.values()],
        texts(job.producer for job in jobs.values()),
        numbers(job.delay_ms for job in jobs.values()),
        moments(job.run_at for job in jobs.values()),
        literal("t" if job.served else "f" for job in jobs.values()),
        "t" if embedded else "f",
        str(publish_after_s),
    )
    return {id: (state, ticket) for id, state, ticket in rows}

"""What ``hareline doctor`` looks at, in the order in which one thing needs the other."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

from embedded.doorbell import Doorbell
from errors import HarelineError
from ledger import open_ledger
from ledger.migrate import Migrations
from ledger.queries import Queries
from ledger.schedule_queries import ScheduleQueries
from ledger.ticks import LEASE
from settings import Settings, load, mask

#: Older servers lack what the topology needs; newer ones are untested.
OLDEST, NEWEST = (3, 10), (4, 3)
SKEW_S = 1.0
#: A duty is said to be late when it is by more than the time between two reports of it.
OVERDUE_S = 10.0
#: So many unhealthy schedules are named.
MOST_ILL = 10


class Mark(StrEnum):
    GOOD = "✓"
    DOUBTFUL = "!"
    BAD = "✗"


@dataclass(frozen=True)
class Finding:
    """One line of the answer; ``text`` says what to do unless all is well."""

    mark: Mark
    what: str
    text: str


def examine() -> Iterator[Finding]:
    """Every finding as soon as it is known.  What needs something that is broken is left out."""
    try:
        settings = load()
    except HarelineError as error:
        yield Finding(Mark.BAD, "settings", str(error))
        return
    given = ", ".join(f"{name} from {origin}" for name, origin in sorted(settings.origins.items()))
    yield Finding(Mark.GOOD, "settings", given or "all defaults")
    yield from _guarded("queues", _queues, settings)
    sound = True
    for finding in _guarded("database", _database, settings):
        sound &= finding.mark is not Mark.BAD
        yield finding
    if sound:
        yield from _guarded("clock", _clock, settings)
        yield from _guarded("workers", _workers, settings)
        yield from _guarded("maintenance", _maintenance, settings)
        yield from _guarded("schedules", _schedules, settings)
    yield from _guarded("rabbitmq" if settings.broker_url else "doorbell", partial(_road, sound=sound), settings)


def _guarded(what: str, check: Callable[[Settings], Iterator[Finding]], settings: Settings) -> Iterator[Finding]:
    """A check that meets an error of ours ends with it as a finding: each says what to do."""
    try:
        yield from check(settings)
    except HarelineError as error:
        yield Finding(Mark.BAD, what, str(error))


def _queues(settings: Settings) -> Iterator[Finding]:
    from actors import broker

    broker.queue_names.check(broker)
    if settings.queues:
        yield Finding(Mark.GOOD, "queues", f"there are all that settings name: {', '.join(sorted(settings.queues))}")


def _database(settings: Settings) -> Iterator[Finding]:
    url = settings.database_url
    from actors.store import migrations as of_actors

    queries = Queries(url)
    try:
        queries.database_time()
    finally:
        queries.close()
    yield Finding(Mark.GOOD, "database", f"{mask(url)} answers")
    for name, migrations in (("ledger", Migrations(url)), ("actors", of_actors(url))):
        current, head = migrations.current(), migrations.head()
        if current == head:
            yield Finding(Mark.GOOD, f"schema of the {name}", f"revision {head}")
        elif url.startswith("sqlite:") and current is None:
            yield Finding(Mark.GOOD, f"schema of the {name}", f"none yet; revision {head} comes with its first use")
        else:
            remedy = "run `hareline migrate` (or, if the database is the newer one, upgrade this program)"
            yield Finding(
                Mark.BAD, f"schema of the {name}", f"revision {current or 'none'}, this version needs {head}; {remedy}"
            )


def _clock(settings: Settings) -> Iterator[Finding]:
    session = open_ledger(settings.database_url, road="embedded").session("hareline-doctor")
    try:
        skew_s = session.clock_skew_s()
    finally:
        session.close()
    if abs(skew_s) > SKEW_S:
        text = f"this machine is {abs(skew_s):.1f} s {'ahead of' if skew_s > 0 else 'behind'} the database"
        yield Finding(Mark.DOUBTFUL, "clock", f"{text}; its logs do not fit the ledger: synchronise it (NTP)")
    else:
        yield Finding(Mark.GOOD, "clock", f"within {SKEW_S:.0f} s of the database's")


def _workers(settings: Settings) -> Iterator[Finding]:
    queries = Queries(settings.database_url)
    try:
        workers, queues = queries.workers(), queries.queues()
    finally:
        queries.close()
    alive = [worker for worker in workers if worker.silent_s < settings.lease_s]
    served = {queue for worker in alive for queue in worker.queues}
    if alive:
        yield Finding(
            Mark.GOOD, "workers", f"{len(alive)} alive, {sum(worker.active for worker in alive)} jobs running"
        )
    else:
        yield Finding(Mark.DOUBTFUL, "workers", "none is alive; start one with `hareline worker`")
    for queue in queues:
        waiting = queue.counts.get("waiting", 0)  # type: ignore[call-overload]
        if queue.paused:
            by = f" by {queue.paused_by}" if queue.paused_by else ""
            remedy = f"`hareline queues resume {queue.name}` lets it go on"
            yield Finding(Mark.DOUBTFUL, f"queue {queue.name}", f"paused{by}, {waiting} jobs waiting; {remedy}")
        elif waiting and alive and queue.name not in served:
            text = f"{waiting} jobs waiting and no worker serves it; start one with `hareline worker -Q {queue.name}`"
            yield Finding(Mark.DOUBTFUL, f"queue {queue.name}", text)


def _maintenance(settings: Settings) -> Iterator[Finding]:
    queries = Queries(settings.database_url)
    try:
        leader, beside = queries.leader("maintenance"), queries.leader("bookkeeping")
        duties, workers = queries.duties(), queries.workers()
    finally:
        queries.close()
    if leader is None:
        if any(worker.silent_s < settings.lease_s for worker in workers):
            text = "workers are alive and none does the duties (delays, retries, rescue, retention); look at their logs"
            yield Finding(Mark.DOUBTFUL, "maintenance", text)
        return
    yield Finding(Mark.GOOD, "maintenance", f"done by {leader.rpartition(':')[0]}")
    for duty in (duty for duty in duties if duty.holder in (leader, beside)):
        late_s = max(duty.late_s, duty.ago_s - duty.every_s - OVERDUE_S)
        text = f"at most {late_s:.1f} s late, took at most {duty.took_s:.1f} s, last begun {duty.ago_s:.1f} s ago"
        bad = late_s > OVERDUE_S
        remedy = "; the ledger is slow, or that process is starved" if bad else ""
        yield Finding(Mark.DOUBTFUL if bad else Mark.GOOD, f"duty {duty.name}", text + remedy)


def _schedules(settings: Settings) -> Iterator[Finding]:
    queries, planned = Queries(settings.database_url), ScheduleQueries(settings.database_url)
    try:
        leader, rows = queries.leader(LEASE), planned.all()
    finally:
        queries.close()
        planned.close()
    active = sum(row.state == "active" for row in rows)
    if leader is not None:
        yield Finding(Mark.GOOD, "schedules", f"{active} active of {len(rows)}, sent by {leader.rpartition(':')[0]}")
    elif active:
        text = f"{active} are active and nobody sends them; start one with `hareline scheduler`"
        yield Finding(Mark.DOUBTFUL, "schedules", text)
    ill = [row for row in rows if row.troubles]
    for row in ill[:MOST_ILL]:
        yield Finding(Mark.DOUBTFUL, f"schedule {row.key}", "; ".join(row.troubles))
    if ill[MOST_ILL:]:
        text = f"{len(ill) - MOST_ILL} more are unhealthy; `hareline schedules ls --unhealthy` shows all"
        yield Finding(Mark.DOUBTFUL, "schedules", text)


def _road(settings: Settings, *, sound: bool) -> Iterator[Finding]:
    if settings.broker_url:
        from cli.checks_rabbitmq import examine_rabbitmq

        yield from examine_rabbitmq(settings, settings.broker_url, sound=sound)
        return
    bell = Doorbell(open_ledger(settings.database_url, road="embedded").url)
    try:
        bell.listen()
    except OSError as error:
        text = (
            f"{bell.folder} cannot be used ({error}); make it writable for this user, or set TMPDIR to another folder"
        )
        yield Finding(Mark.BAD, "doorbell", text)
    else:
        yield Finding(Mark.GOOD, "doorbell", f"{bell.folder}; BROKER_URL is not set, the ledger carries the jobs")
    finally:
        bell.close()

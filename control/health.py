"""Whether all is well: every queue, the workers, the schedules and the duties, by thresholds that are data."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from ledger.alerts import Level
from ledger.orders import Mode
from ledger.queries import Queries
from ledger.queue_stats import QueueStats
from ledger.schedule_queries import ScheduleQueries, ScheduleView
from ledger.states import State
from ledger.views import DutyView, WorkerView
from settings import HEALTH, Settings, fold, thresholds_of

Thresholds = Mapping[str, tuple[float, float] | None]


@dataclass(frozen=True)
class Finding:
    """How one thing stands."""

    queue: str  #: empty: of the whole system
    rule: str
    level: Level
    value: float
    warning: float  #: above this …
    critical: float  #: … and this
    text: str  #: in words


@dataclass(frozen=True)
class Health:
    at: datetime
    level: Level  #: of the worst
    findings: Sequence[Finding]  #: the worst first


@dataclass(frozen=True)
class Rules:
    """The thresholds of everything, and of queues that have their own.

    Parameters:
      lease_s: how long a worker may be silent.
    """

    everywhere: Thresholds
    queues: Mapping[str, Thresholds]
    lease_s: float

    @classmethod
    def of(cls, settings: Settings) -> "Rules":
        own = {fold(name): thresholds_of(queue.health) for name, queue in settings.queues.items() if queue.health}
        return cls({**HEALTH, **thresholds_of(settings.health)}, own, settings.lease_s)

    def of_queue(self, queue: str) -> Thresholds:
        return {**self.everywhere, **self.queues.get(fold(queue), {})}

    def told_above(self, queue: str) -> Mapping[State, int]:
        """How many jobs of a queue are critical, by their state."""
        limits = self.of_queue(queue)
        return {
            state: int(min(critical[1], 1e9)) + 1
            for state in (State.WAITING, State.DELAYED)
            if (critical := limits.get(state)) is not None
        }


def check(queries: Queries, schedules: ScheduleQueries, rules: Rules, *, names: Iterable[str] = ()) -> Health:
    """How everything stands now; ``names`` are queues to look at although they have no jobs.

    Within a scope of queues nothing is said of schedules, which are of no queue.  Raises ``LedgerUnavailable``.
    """
    at = queries.database_time()
    stats, workers = queries.queue_stats(list(names), upto=rules.told_above), queries.workers()
    found = [
        *(finding for queue in stats for finding in _queue(queue, workers, rules.of_queue(queue.name))),
        *_workers(workers, rules),
        *([] if queries.scope.limited else _schedules(schedules.all(), at, rules.everywhere)),
        *_duties(queries.duties(), rules.everywhere),
    ]
    found.sort(key=lambda x: (-x.level.rank, x.queue, x.rule))
    return Health(at, found[0].level if found else Level.OK, found)


def _queue(queue: QueueStats, workers: Sequence[WorkerView], thresholds: Thresholds) -> Iterable[Finding]:
    more = dict.fromkeys(queue.more, "at least ")
    serving = [x for x in workers if queue.name in x.queues and x.state == "running" and x.mode is not Mode.QUIET]
    slots = sum(x.slots.get(queue.name, 0) for x in serving)
    waits_s = queue.oldest_waiting_s or 0.0
    values: dict[str, tuple[float, str]] = {
        "waiting": (queue.waiting, f"{more.get(State.WAITING, '')}{queue.waiting:,} jobs wait"),
        "failed": (queue.failed, f"{more.get(State.FAILED, '')}{queue.failed:,} dead letters"),
        "delayed": (queue.delayed, f"{more.get(State.DELAYED, '')}{queue.delayed:,} jobs are delayed"),
    }
    if slots:
        values["active"] = (queue.active / slots, f"{queue.active:,} jobs run in {slots} slots of living workers")
    if not queue.paused:  # whoever paused it knows that its jobs wait
        values["oldest_waiting"] = (waits_s, f"a job has waited {waits_s:,.0f} s")
        idle_s = 0.0 if serving else waits_s
        waits = f"a job has waited {idle_s:,.0f} s" if idle_s else "no job waits"
        values["unserved"] = (idle_s, "workers serve it" if serving else f"no worker serves it, and {waits}")
    for rule, (value, text) in values.items():
        yield from _judge(thresholds, queue.name, rule, value, text)


def _workers(workers: Sequence[WorkerView], rules: Rules) -> Iterable[Finding]:
    if workers:
        worst = max(workers, key=lambda x: x.silent_s)
        since = ", all others since" if len(workers) > 1 else ""
        text = f"worker {worst.id} on {worst.host} was last heard of {worst.silent_s:.0f} s ago{since}"
        yield from _judge(rules.everywhere, "", "silent", worst.silent_s / rules.lease_s, text)


def _schedules(schedules: Sequence[ScheduleView], at: datetime, thresholds: Thresholds) -> Iterable[Finding]:
    late = [
        ((at - x.schedule.timetable.due(x.key, x.next_at)).total_seconds(), x.key)
        for x in schedules
        if x.schedule is not None and x.next_at is not None
    ]
    if late:
        late_s, key = max(late)
        late_s = max(0.0, late_s)
        text = f"schedule {key} is {late_s:.0f} s late"
        yield from _judge(thresholds, "", "schedules", late_s, text, "; does a scheduler run?")


def _duties(duties: Sequence[DutyView], thresholds: Thresholds) -> Iterable[Finding]:
    late = [(max(x.late_s, x.ago_s - max(x.every_s, 10.0)), x.name) for x in duties]
    if late:
        late_s, name = max(late)
        late_s = max(0.0, late_s)
        text = f"the duty {name!r} is {late_s:.0f} s late"
        yield from _judge(thresholds, "", "duties", late_s, text, "; does a worker run?")


def _judge(thresholds: Thresholds, queue: str, rule: str, value: float, text: str, hint: str = "") -> Iterable[Finding]:
    """How it stands by this rule, unless that is off; the hint is only for when it does not stand well."""
    if (limits := thresholds.get(rule)) is None:
        return
    warning, critical = limits
    level = Level.CRITICAL if value > critical else Level.WARNING if value > warning else Level.OK
    yield Finding(queue, rule, level, value, warning, critical, text if level is Level.OK else text + hint)

"""When: puts recurring messages into the ledger, each tick once, however many schedulers run.

    hareline scheduler          # the same as: python scheduler.py

A tick is a schedule's key and the time it was to fire, which follows from the schedule alone.  The ledger takes
each tick once, so two schedulers are as good as one and better when one dies.
"""

import difflib
import re
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import structlog
from apscheduler.executors.base import BaseExecutor
from apscheduler.job import Job
from apscheduler.schedulers.blocking import BlockingScheduler
from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.interval import IntervalTrigger
from dramatiq.message import Message

import logs
from broker import Broker, maintenance
from errors import HarelineError, LedgerError, QueueFull, Refusal, SettingsError
from ledger.migrate import Migrations
from ledger.records import TICKS_KEPT_S
from settings import Settings, load

log = structlog.get_logger(__name__)

#: How long to wait before a tick that could not be recorded is tried again.
RETRY_S = 1.0
#: A tick older than that may be forgotten before it is recorded again; a day is for being slow.
LONGEST_CATCH_UP_S = TICKS_KEPT_S - 86_400

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNITS_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


class BadSchedule(HarelineError):
    """Raised at start when a schedule cannot work; it names the schedule and what to correct."""


def always(settings: Settings) -> str:
    """No reason to leave a schedule out."""
    return ""


@dataclass(frozen=True)
class Schedule:
    """A message that is sent again and again.

    Parameters:
      key: names its ticks for ever; another key is another schedule.
      when: ``every 3s`` (``s``, ``m``, ``h``, ``d``; counted from 1970, so that all schedulers agree), or the five
        fields of cron, weekdays by name.
      zone: the time zone the cron fields are in.
      catch_up_s: the last tick missed before the start of this scheduler is sent late if it is no older than this;
        at most seven days, for then the ledger forgets which ticks were sent.
      skip: why it is left out with these settings; empty when it is not.
    """

    key: str
    actor: str
    when: str
    zone: str = "UTC"
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    catch_up_s: float = 3_600
    skip: Callable[[Settings], str] = always

    def message(self, broker: Broker) -> Message[Any]:
        """What one tick sends."""
        actor = broker.get_actor(self.actor)
        return actor.message_with_options(args=self.args, kwargs=dict(self.kwargs), **self.options)

    def trigger(self) -> BaseTrigger:
        """When it fires.  Raises :class:`BadSchedule`."""
        if every := re.fullmatch(r"every (\d+)([smhd])", self.when):
            seconds = int(every[1]) * _UNITS_S[every[2]]
            if seconds < 1:
                raise BadSchedule(f"schedule {self.key!r}: {self.when!r} never ends; the shortest is 'every 1s'")
            return IntervalTrigger(seconds=seconds, start_date=_EPOCH, timezone=UTC)
        fields = self.when.split()
        if len(fields) == 5 and re.search(r"\d", fields[4]):
            # Sunday is 0 to cron and 6 to APScheduler: whoever writes a number means one of them.
            raise BadSchedule(f"schedule {self.key!r}: write the weekday in {self.when!r} by name: sun, mon-fri …")
        try:
            trigger = CronTrigger.from_crontab(self.when, timezone=ZoneInfo(self.zone))
        except (ZoneInfoNotFoundError, OSError):
            raise BadSchedule(
                f"schedule {self.key!r}: there is no time zone {self.zone!r}; write for example Europe/Vienna"
            ) from None
        except ValueError as error:
            raise BadSchedule(
                f"schedule {self.key!r}: {self.when!r} in zone {self.zone!r} cannot be read ({error}); "
                "write 'every 3s' or five cron fields such as '0 3 * * mon-fri'"
            ) from None
        if trigger.get_next_fire_time(None, datetime.now(UTC)) is None:
            raise BadSchedule(f"schedule {self.key!r}: {self.when!r} never comes; correct the day or the month")
        return trigger


SCHEDULES: Sequence[Schedule] = (
    Schedule(
        "cleanup-audit-log",
        actor="cleanup_audit_log",
        when="0 3 * * *",
        catch_up_s=86_400,
        skip=lambda settings: "" if settings.audit_log_retention_days else "AUDIT_LOG_RETENTION_DAYS is 0",
    ),
)


class Emitter:
    """Records ticks on a thread of its own, and does not give up while the ledger is away.

    Of each schedule the newest tick is pending at most: what comes in the meantime takes the place of what could
    not be recorded, and the log says so.
    """

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._pending: dict[str, tuple[Schedule, datetime]] = {}
        self._news = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="hareline-ticks", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def put(self, schedule: Schedule, fire_times: Sequence[datetime]) -> None:
        """These ticks, oldest first, are due.  Never blocks for long."""
        with self._news:
            before = [self._pending[schedule.key][1]] if schedule.key in self._pending else []
            *passed, newest = [*before, *fire_times]
            self._pending[schedule.key] = (schedule, newest)
            self._news.notify()
        if passed:
            log.warning(
                "schedule.superseded",
                schedule=schedule.key,
                ticks=len(passed),
                since=_text(passed[0]),
                by=_text(newest),
            )

    def stop(self, timeout_s: float = 10.0) -> None:
        """Record what is pending, once more, and end.  Idempotent."""
        with self._news:
            self._stopping = True
            self._news.notify()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while True:
            with self._news:
                self._news.wait_for(lambda: self._pending or self._stopping)
                due = list(self._pending.values())
                stopping = self._stopping
            left = [tick for tick in due if not self._emit(*tick)]
            if stopping:
                for schedule, fire_time in left:
                    log.error("schedule.missed", schedule=schedule.key, tick=_text(fire_time), why="stopped before")
                return
            if left:
                with self._news:
                    self._news.wait_for(lambda: self._stopping, RETRY_S)

    def _emit(self, schedule: Schedule, fire_time: datetime) -> bool:
        """Record one tick; false when it must be tried again."""
        try:
            tick = (schedule.key, fire_time.astimezone(UTC))
            new = self._broker.enqueue_tick(schedule.message(self._broker), tick)
        except (LedgerError, QueueFull) as error:
            log.warning("schedule.waits", schedule=schedule.key, tick=_text(fire_time), why=str(error))
            return False
        except Refusal as error:
            log.error("schedule.refused", schedule=schedule.key, tick=_text(fire_time), why=str(error))
        except Exception:
            log.critical("schedule.failed", schedule=schedule.key, tick=_text(fire_time), exc_info=True)
            return False
        else:
            name = "schedule.sent" if new else "schedule.known"  # known: another scheduler was first, or it is unique
            log.info(name, schedule=schedule.key, tick=_text(fire_time), actor=schedule.actor)
        with self._news:
            if self._pending.get(schedule.key) == (schedule, fire_time):
                del self._pending[schedule.key]
        return True


class Ticks(BaseExecutor):  # type: ignore[misc]
    """Hands what is due, with the times it was due at, to the emitter; APScheduler's own tell a job no time."""

    def __init__(self, emitter: Emitter) -> None:
        super().__init__()
        self._emitter = emitter

    def submit_job(self, job: Job, run_times: list[datetime]) -> None:
        # No count of instances: the emitter keeps one tick of each schedule, so they cannot pile up.
        self._do_submit_job(job, run_times)

    def _do_submit_job(self, job: Job, run_times: list[datetime]) -> None:
        self._emitter.put(job.args[0], run_times)


def plan(schedules: Sequence[Schedule], settings: Settings, broker: Broker) -> list[tuple[Schedule, BaseTrigger]]:
    """The schedules that run with these settings, with their triggers.

    Raises :class:`BadSchedule` for one that cannot work, also when it is skipped.
    """
    planned: dict[str, tuple[Schedule, BaseTrigger]] = {}
    for schedule in schedules:
        if schedule.key in planned:
            raise BadSchedule(f"schedule {schedule.key!r} is there twice; give one of them another key")
        if schedule.actor not in broker.actors:
            near = difflib.get_close_matches(schedule.actor, broker.actors, n=1, cutoff=0) or ["(there is none)"]
            raise BadSchedule(
                f"schedule {schedule.key!r}: no actor is named {schedule.actor!r}; the nearest is {near[0]}"
            )
        try:
            broker.new_job(schedule.message(broker))
        except Refusal as error:
            raise BadSchedule(f"schedule {schedule.key!r}: {error}") from error
        if not 0 <= schedule.catch_up_s <= LONGEST_CATCH_UP_S:
            raise BadSchedule(
                f"schedule {schedule.key!r}: catch_up_s is {schedule.catch_up_s:,} s; give 0 to "
                f"{LONGEST_CATCH_UP_S:,.0f} (seven days), for older ticks are forgotten, and would be sent twice"
            )
        planned[schedule.key] = (schedule, schedule.trigger())
    for schedule, _ in list(planned.values()):
        if why := schedule.skip(settings):
            del planned[schedule.key]
            log.info("schedule.skipped", schedule=schedule.key, why=why)
    return list(planned.values())


def first(schedule: Schedule, trigger: BaseTrigger, now: datetime) -> datetime:
    """The tick to begin with: the last one before now if it is young enough to be sent late, else the next."""
    moment: datetime = trigger.get_next_fire_time(None, now - timedelta(seconds=schedule.catch_up_s))
    while (following := trigger.get_next_fire_time(moment, now)) is not None and following <= now:
        moment = following
    return moment


def run(schedules: Sequence[Schedule], settings: Settings, broker: Broker) -> None:
    """Emit the schedules, and do the duties of maintenance, until SIGTERM or SIGINT.  For the main thread.

    Raises :class:`BadSchedule`, ``SchemaMismatch`` or ``LedgerUnavailable`` before anything is started.
    """
    planned = plan(schedules, settings, broker)
    if not settings.database_url.startswith("sqlite:"):  # that one migrates itself
        Migrations(settings.database_url).check()
    emitter = Emitter(broker)
    # Nothing is dropped by APScheduler itself: it would only say nothing of it.  So no limit to lateness (a laptop
    # that slept sends one tick late), no coalescing and no limit of instances: the emitter does that, and logs it.
    scheduler = BlockingScheduler(
        timezone=UTC,
        executors={"default": Ticks(emitter)},
        job_defaults={"misfire_grace_time": None, "coalesce": False},
    )
    now = datetime.now(UTC)
    for schedule, trigger in planned:
        begin = first(schedule, trigger, now)
        scheduler.add_job(_sent_by_the_executor, trigger, [schedule], id=schedule.key, next_run_time=begin)
        log.info(
            "schedule.planned", schedule=schedule.key, actor=schedule.actor, when=schedule.when, first=_text(begin)
        )
    # A handler could interrupt the main thread while it holds a lock of the scheduler's; a waiting thread cannot.
    stops = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, stops)

    def stop() -> None:
        signal.sigwait(stops)
        log.info("scheduler.stopping")
        signal.pthread_sigmask(signal.SIG_UNBLOCK, stops)  # a second signal ends the process at once
        scheduler.shutdown(wait=False)

    threading.Thread(target=stop, name="hareline-signals", daemon=True).start()
    duties = maintenance(broker, settings)
    duties.start()
    emitter.start()
    log.info("scheduler.ready", schedules=len(planned))
    try:
        scheduler.start()
    finally:
        emitter.stop()
        duties.stop()
        broker.close()
        log.info("scheduler.stopped")


def main(schedules: Sequence[Schedule] = SCHEDULES) -> int:
    """``python scheduler.py``.  Returns the exit code, as of ``hareline``'s commands."""
    try:
        settings = load()
        logs.configure(settings)
        from actors import broker  # reads the settings, so after they are known to be good

        run(schedules, settings, broker)
    except HarelineError as error:
        print(f"hareline scheduler: {error}", file=sys.stderr)
        return 2 if isinstance(error, (SettingsError, BadSchedule)) else 5
    return 0


def _sent_by_the_executor(schedule: Schedule) -> None:
    """What APScheduler thinks it runs."""
    raise AssertionError(f"schedule {schedule.key!r} was run without its fire time")


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds")


if __name__ == "__main__":
    sys.exit(main())

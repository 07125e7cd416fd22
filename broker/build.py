"""build(settings) -> Broker."""

import functools
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from dramatiq.middleware import AsyncIO, Pipelines
from dramatiq.results import Results

from broker.amqp import AmqpRoad
from broker.bookkeeping import bookkeeping
from broker.broker import Broker, concurrency_of
from broker.desk import Desk
from broker.jobs import LedgerJobs
from broker.letters import Projection
from broker.lifecycle import Lifecycle
from broker.local import LocalRoad
from broker.making import received
from broker.queue_names import QueueNames
from broker.road import Road
from broker.room import Room
from broker.runtime import Runtime
from broker.sizes import Sizes
from broker.watch import Watch
from errors import SettingsError
from ledger import open_ledger
from ledger.checkpoints import Checkpoints
from ledger.events import HEARD, Happened, chosen
from ledger.ledger import Session
from ledger.recorder import Recorder
from ledger.records import Claim, Finish, Keep
from ledger.redact import hide
from ledger.sealing import KeyRing
from middleware.atomic_sends import AtomicSends
from middleware.audit import Audit
from middleware.callbacks import Callbacks
from middleware.capacity import Capacity
from middleware.circuits import RECALL_S, RECALLED, Circuits
from middleware.concurrency import ConcurrencyLimits
from middleware.current import Current
from middleware.deadlines import Deadlines
from middleware.expiry import EXPIRE_S, Expiry
from middleware.flow_duties import SETTLE_S, WAKE_S, FlowDuties
from middleware.flows import Flows, OpenResults
from middleware.gatekeeper import SURVEY_S, TEND_S, Gatekeeper
from middleware.groups import Groups
from middleware.heartbeat import Heartbeat
from middleware.limits import Limits
from middleware.listeners import Listeners
from middleware.maintenance import GAP_S, Duty, Maintenance
from middleware.notify_admin import Counted, NotifyAdmin
from middleware.rates import Rate
from middleware.relay import Relay
from middleware.rescuer import Rescuer
from middleware.results import LedgerResults
from middleware.retention import RETAIN_S, Retention
from middleware.retries import Retries
from middleware.unique import Uniqueness
from rabbitmq.connection import user_of
from rabbitmq.consumer import Consumers
from rabbitmq.management import passive_counts, purge
from rabbitmq.publisher import Publisher
from rabbitmq.topology import Queue, choose_type, topology
from settings import Settings

if TYPE_CHECKING:
    from middleware.metering import Metering
    from middleware.tracing import Tracing

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: Days the history is kept beyond its time: for the actor that archives it daily, should nobody have run it.
BACKSTOP_DAYS = 7


class QueueDefaults(Protocol):
    """What a catalogue of queues says of one queue; settings may overrule it."""

    @property
    def concurrency(self) -> int: ...
    @property
    def keep(self) -> Keep | None: ...
    @property
    def rate(self) -> str | None: ...
    @property
    def max_waiting(self) -> int | None: ...
    @property
    def max_running(self) -> int | None: ...


def build(settings: Settings, *, queues: Mapping[str, QueueDefaults] | None = None) -> Broker:
    """A broker for these settings, with its middleware in order.  Does no I/O.

    Parameters:
      queues: the catalogue of queues, by name; others have the default concurrency.
    """
    hide(settings.redact_keys)
    catalogue = queues or {}
    queued = (catalogue, settings.queues)
    sizes = _last_said(queued, lambda queue: queue.concurrency)
    concurrency = Sizes(concurrency_of(sizes, settings.queue_concurrency))
    rates = {name: Rate.parse(rate) for name, rate in _last_said(queued, lambda queue: queue.rate or None).items()}
    running = _last_said(queued, lambda queue: queue.max_running or None)
    ledger = open_ledger(
        settings.database_url,
        road="rabbitmq" if settings.broker_url else "embedded",
        publish_after_s=settings.publish_after_s,
        synchronous=settings.sqlite_synchronous,
    )
    recorder = Recorder(ledger)
    broker = Broker(
        recorder,
        settings.database_url,
        max_payload_bytes=settings.max_payload_bytes,
        concurrency=concurrency,
        ring=KeyRing.of(settings),
        producer=settings.producer or (user_of(settings.broker_url) if settings.broker_url else ""),
    )
    broker.ledger = ledger
    waiting = _last_said(queued, lambda queue: queue.max_waiting or None)
    broker.room = Room(ledger, waiting)
    broker.queue_names = QueueNames(settings.queues, catalogue, sizes, rates, running, waiting)
    broker.max_age_ms = settings.max_age_ms
    broker.keep = {name: queue.keep for name, queue in catalogue.items() if queue.keep}
    broker.jobs = LedgerJobs(
        settings.database_url,
        "rabbitmq" if settings.broker_url else "embedded",
        lambda: broker.queries,
        broker.ring,
        by=lambda: broker.sender,
    )
    broker.cancel_waiting = functools.partial(_cancel_waiting, settings.database_url)
    broker.listeners = Listeners(
        ledger,
        recorder,
        about=lambda ids: broker.queries.about(ids),
        note=functools.partial(_note_trouble, settings.database_url),
    )

    broker.metering = _metering(settings, broker)
    desk: Desk
    road: Road
    if settings.broker_url:
        road = _amqp(settings, broker, lambda: desk, on_found_paused=lambda: heartbeat.look())
    else:
        road = LocalRoad(ledger, recorder, lambda: desk, concurrency)
    broker.road = road
    recorder.send = road.send
    desk = Desk(
        recorder,
        broker.actors,
        broker.aliases,
        send=road.send,
        bury=road.project if isinstance(road, AmqpRoad) else _kept,
        unknown_actor_grace_s=settings.unknown_actor_grace_s,
        told=broker.listeners.ended,
        counted=broker.metering.ended if broker.metering else None,
        blocked=broker.metering.blocked if broker.metering else None,
    )

    deadlines = Deadlines(
        time_limit_ms=settings.time_limit_ms,
        max_age_ms=settings.max_age_ms,
        grace_s=settings.shutdown_grace_s,
        cancel_grace_s=settings.cancel_grace_s,
    )
    circuits = Circuits(recorder)
    limits, gates = Limits(recorder, rates), ConcurrencyLimits(recorder, running)
    runtime = Runtime(recorder, lambda: road, concurrency, broker.room, limits, gates, broker.exit)
    metering = broker.metering
    if metering:
        limits.on_wait = metering.waits
        if isinstance(road, AmqpRoad):
            metering.stats = lambda: road.publisher.stats
            road.publisher.on_confirmed = metering.confirmed

    def look(session: Session) -> None:
        runtime.look(session)
        circuits.look(session)
        if metering:
            metering.look()

    heartbeat = Heartbeat(
        ledger,
        recorder,
        lease_s=settings.lease_s,
        on_paused=road.pause,
        on_cancel=deadlines.cancel,
        on_look=look,
    )
    broker.tracing = _tracing(settings)

    def check() -> None:
        broker.listeners.check(broker)
        ledger.check()

    notify_admin = _notify_admin(settings, broker.listeners)
    flows = Flows(ledger, recorder)
    lifecycle = Lifecycle(road, recorder, heartbeat, lambda: maintenance(broker, settings), check)
    for middleware in (
        Audit(recorder),  # first: its after-hook is the last
        broker.queue_names,
        Capacity(concurrency),  # before the worker registers with its number of threads
        *([metering] if metering else ()),  # before the first claim, and until the last finish
        lifecycle,
        runtime,  # after the heartbeat's first look
        *([notify_admin] if notify_admin else ()),  # ends after the listeners have
        AsyncIO(),
        Current(recorder, Checkpoints(ledger), max_checkpoint_bytes=settings.max_checkpoint_bytes),
        *([broker.tracing] if broker.tracing else ()),  # around those that send
        Callbacks(),
        Groups(ledger, broker.holding),
        Pipelines(),
        Results(
            backend=LedgerResults(
                lambda: broker.queries, broker.ring, broker.schemas.result, max_bytes=settings.max_result_bytes
            )
        ),
        Retries(
            max_retries=settings.job_attempts - 1,
            min_backoff=settings.min_backoff_ms,
            max_backoff=settings.max_backoff_ms,
        ),
        flows,  # what a step takes is there before it is checked, and before limits look at it
        broker.aliases,
        broker.permissions,
        broker.encryption,
        broker.schemas,  # after those that decide what becomes of what does not fit
        circuits,  # before the limits: what is put off takes no start
        gates,  # before rates: who is blocked has none reserved
        OpenResults(flows),
        limits,  # of what will run
        AtomicSends(broker.holding),
        Uniqueness(),
        broker.sequences,
        broker.listeners,  # of what begins
        deadlines,  # last: closest to the actor
    ):
        broker.add_middleware(middleware)
    return broker


def _metering(settings: Settings, broker: Broker) -> "Metering | None":
    if settings.metrics_port is None:
        return None
    from middleware.metering import Metering

    metering = Metering(settings, broker.recorder, broker.actors)
    broker.recorder.meter = metering.meter
    return metering


def _tracing(settings: Settings) -> "Tracing | None":
    if settings.tracing == "off":
        return None
    try:
        from middleware.tracing import Tracing  # with it comes OpenTelemetry, which need not be installed
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"HARELINE_TRACING={settings.tracing} needs OpenTelemetry ({error}); pip install 'hareline[otel]', or set "
            "it to off"
        ) from error
    return Tracing(system="rabbitmq" if settings.broker_url else "hareline", parents=settings.tracing == "parents")


def _last_said(sources: Sequence[Mapping[str, Any]], what: Callable[[Any], T | None]) -> dict[str, T]:
    """By queue, of those for which any source says it; the last one counts."""
    return {name: said for source in sources for name, queue in source.items() if (said := what(queue)) is not None}


def maintenance(broker: Broker, settings: Settings) -> Maintenance:
    """The duties of a worker process or a scheduler, not yet started."""
    road = broker.road
    keep = Keep(settings.keep_completed, settings.keep_completed_s, settings.keep_failed, settings.keep_failed_s)
    days = settings.audit_log_retention_days
    history_s = (days + BACKSTOP_DAYS) * 86_400.0 if days else 0.0
    metering = broker.metering
    relay = Relay(
        road.send,
        resend_after_s=settings.resend_after_s,
        room=road.ready,
        on_sent=metering.relayed if metering else None,
    )
    gatekeeper = Gatekeeper(road.send)
    duties = [
        Duty("relay", 0.0, relay.run),
        Duty("gates", TEND_S, gatekeeper.tend),
        Duty("survey of gates", SURVEY_S, gatekeeper.survey),
        Duty("circuits", RECALL_S, lambda session: session.recall(RECALLED, spread_s=RECALL_S)),
    ]
    retention = Retention(broker.keep, keep, history_s=history_s)
    flows = FlowDuties(road.send)
    slow = [Duty("retention", RETAIN_S, retention.run), Duty("lost steps", SETTLE_S, flows.settle)]
    projection = None
    if isinstance(road, AmqpRoad) and settings.broker_url:
        url = settings.broker_url
        projection = Projection(
            lambda: broker.queries,
            publish=road.publisher.publish,
            counts=functools.partial(passive_counts, url),
            purge=lambda name: purge(url, name),
            queues=lambda: sorted(broker.get_declared_queues()),
        )
        reconcile = projection.reconcile
        orphans = functools.partial(sweep, broker=broker, url=url, older_than_s=settings.orphan_s)
        slow += [
            Duty("dead letters", settings.reconcile_s, lambda session: reconcile(session) if road.ready() else None),
            Duty("orphan sweep", settings.sweep_s, lambda session: orphans(session) if road.ready() else None),
        ]
    else:
        slow.append(
            Duty("orphan sweep", settings.sweep_s, lambda session: session.resend(older_than_s=settings.orphan_s))
        )
    # Whoever was stopped for less than that finds the others' last beats within their lease.
    loop = Maintenance(
        broker.ledger,
        duties,
        gap_s=min(GAP_S, settings.lease_s / 2),
        beside=bookkeeping(broker.ledger, settings, slow),
    )

    def found(happened: Happened) -> Callable[[Sequence[str]], None]:
        def dead(jobs: Sequence[str]) -> None:
            broker.listeners.found(happened, jobs)
            if metering is not None:
                metering.found(happened, broker.queries.about(jobs))
            if projection is not None:
                projection.publish_jobs(jobs)

        return dead

    quarantined = found(Happened.QUARANTINED)
    rescuer = Rescuer(
        lease_s=settings.lease_s,
        continuous_s=loop.continuous_s,
        on_dead=quarantined,
        on_rescued=metering.rescued if metering else None,
    )
    watch = Watch(broker, settings)
    first = time.monotonic() + settings.alert_every_s
    duties.append(Duty("alerts", settings.alert_every_s, watch.run, next_at=first))
    duties.append(Duty("flows", WAKE_S, flows.wake))
    duties.append(Duty("expiry", EXPIRE_S, Expiry(on_dead=found(Happened.EXPIRED)).run))
    duties.insert(1, Duty("rescuer", settings.lease_s / 3, rescuer.run))  # whatever is slow comes after it
    return loop


def sweep(session: Session, broker: Broker, url: str, older_than_s: float) -> int:
    """Send again what RabbitMQ lost: waiting jobs confirmed long ago whose queue is empty, or is not there.

    Empty is: no message ready.  AMQP does not tell of those in workers' hands; a job whose message is just being
    claimed may be sent again, and the first of its two messages is then stale and dropped.
    """
    queues = sorted(broker.get_declared_queues())
    there = passive_counts(url, queues)
    empty = [queue for queue in queues if queue not in there or there[queue].messages == 0]
    found = sum(session.resend(queue=queue, older_than_s=older_than_s) for queue in empty)
    if found:
        logger.warning("%d jobs waited in the ledger for messages RabbitMQ does not have: sent again", found)
    return found


def _amqp(
    settings: Settings, broker: Broker, desk: Callable[[], Desk], on_found_paused: Callable[[], None]
) -> AmqpRoad:
    url = settings.broker_url
    assert url is not None

    def topology_for(server: tuple[int, int]) -> list[Queue]:
        return topology(
            sorted(broker.get_declared_queues()), queue_type=choose_type(settings.queue_type, server), server=server
        )

    return AmqpRoad(
        lambda sent: Publisher(url, topology=topology_for, on_sent=sent, confirm_timeout_s=settings.confirm_timeout_s),
        # RabbitMQ feeds a consumer that stalled until a heartbeat is missed: about when its lease ends.
        lambda arrived: Consumers(
            url, on_delivery=arrived, topology=topology_for, heartbeat_s=max(2, round(settings.lease_s / 2))
        ),
        broker.ledger,
        broker.recorder,
        desk,
        broker.concurrency,
        on_found_paused,
        functools.partial(received, broker),
    )


def _cancel_waiting(url: str, queue: str) -> int:
    from control.jobs import cancel_waiting  # with it comes SQLAlchemy, which a producer need not wait for

    return cancel_waiting(url, queue, by="flush")


def _notify_admin(settings: Settings, listeners: Listeners) -> NotifyAdmin | None:
    """Where somebody is to be told of dead letters: the log has them one by one."""
    if settings.alert_mail_to and not (settings.smtp_url and settings.mail_from):
        raise SettingsError(
            "HARELINE_ALERT_MAIL_TO needs HARELINE_SMTP_URL and HARELINE_MAIL_FROM: who takes mails, and whom they are "
            "from"
        )
    if not (settings.alert_webhook_url or settings.alert_slack_url or settings.alert_mail_to):
        return None
    found = NotifyAdmin(functools.partial(_note_dead, settings.database_url))
    listeners.add(found.dead, chosen(["dead"], HEARD, elsewhere=""), actor=None, queue=None)
    return found


def _note_dead(url: str, counted: Counted) -> None:
    from control import Control  # with it comes SQLAlchemy, as above
    from control.alerts import note_dead

    control = Control(url, "embedded")
    try:
        note_dead(control, counted, by="notify_admin")
    finally:
        control.close()


def _kept(claim: Claim, message: object, body: bytes, finish: Finish) -> None:
    """On the embedded road the ledger's row is the dead letter."""


def _note_trouble(url: str, listener: str, what: Mapping[str, Any]) -> None:
    from control import Control  # with it comes SQLAlchemy, as above
    from control.followers import note_trouble

    control = Control(url, "embedded")
    try:
        note_trouble(control, listener, what)
    finally:
        control.close()

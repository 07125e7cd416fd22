"""What RabbitMQ says of its queues at one moment, by the way that is open.

What was not said is None, never 0: a queue that is younger than the first statistics has no counts yet, a user without
the tag ``monitoring`` is told of no alarms, and AMQP alone tells of no message in a worker's hands.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from errors import BrokerUnavailable
from rabbitmq.management import Management, passive_counts, probe
from rabbitmq.topology import Queue

Source = Literal["management", "amqp"]

_COLUMNS = (
    "name,type,durable,auto_delete,arguments,policy,effective_policy_definition,consumers,"
    "messages_ready,messages_unacknowledged,message_stats.publish_details.rate,"
    "message_stats.deliver_get_details.rate,message_stats.ack_details.rate"
)

#: What takes messages out of a queue behind the ledger's back, when a policy sets it.
_TAKES = ("expires", "message-ttl", "max-length", "max-length-bytes", "dead-letter-exchange", "delivery-limit")


@dataclass(frozen=True, slots=True)
class Declared:
    """How a queue was declared, and what else applies to it."""

    kind: str  #: classic, quorum, stream
    durable: bool
    auto_delete: bool
    arguments: Mapping[str, Any]
    policy: str  #: the name of the policy that applies; empty: none
    policy_sets: Mapping[str, Any]
    bindings: tuple[str, ...] | None  #: beside that of the default exchange


@dataclass(frozen=True, slots=True)
class QueueReading:
    """One queue; rates are per second."""

    name: str
    ready: int | None = None
    unacknowledged: int | None = None
    consumers: int | None = None
    published: float | None = None
    delivered: float | None = None
    acknowledged: float | None = None
    declared: Declared | None = None

    @property
    def messages(self) -> int | None:
        """All it holds, those in workers' hands too."""
        return None if self.ready is None or self.unacknowledged is None else self.ready + self.unacknowledged


@dataclass(frozen=True, slots=True)
class Reading:
    """What RabbitMQ said; ``queues`` has only those that exist."""

    source: Source
    version: str
    server: tuple[int, int]  #: (major, minor)
    cluster: str
    queues: Mapping[str, QueueReading]
    alarms: tuple[str, ...] | None = None  #: as "memory on rabbit@a"
    blocked: int | None = None  #: connections that may not publish
    missing: tuple[str, ...] = field(default=())  #: what it would not say, and why


def read(management: Management) -> Reading:
    """Ask the management API: up to five requests.  Raises ``BrokerUnavailable``, with the remedy."""
    overview = management.ask("/overview", columns="rabbitmq_version,cluster_name")
    missing: list[str] = []

    def ask(what: str, path: str, **parameters: str) -> Any:
        """None when this user may not know."""
        try:
            return management.ask(path, **parameters)
        except BrokerUnavailable as error:
            missing.append(f"{what}: {error}")
            return None

    # Totals of every queue even where the server is told to keep no statistics.
    rows = management.ask("/queues/{vhost}", columns=_COLUMNS, enable_queue_totals="true")
    if not isinstance(overview, dict) or not isinstance(rows, list):
        raise BrokerUnavailable(
            "the management API does not know the virtual host of BROKER_URL, or does not show it to this user"
        )
    bindings = ask("bindings", "/bindings/{vhost}", columns="source,destination,routing_key,destination_type")
    nodes = ask("alarms", "/nodes", columns="name,mem_alarm,disk_free_alarm,running")
    connections = ask("blocked connections", "/vhosts/{vhost}/connections", columns="state")
    version = str(overview.get("rabbitmq_version", ""))
    major, minor = [*version.split("."), "0", "0"][:2]
    return Reading(
        source="management",
        version=version,
        server=(int(major), int(minor)),
        cluster=str(overview.get("cluster_name", "")),
        queues={str(row["name"]): _queue(row, bindings) for row in rows},
        alarms=None if nodes is None else tuple(_alarms(nodes)),
        blocked=None
        if connections is None
        # Before it has statistics of a connection, RabbitMQ 4.3 answers an empty list for it.
        else sum(isinstance(row, dict) and row.get("state") in ("blocked", "blocking") for row in connections),
        missing=tuple(missing),
    )


def read_passively(url: str, queues: Iterable[str], why: str = "") -> Reading:
    """Ask over AMQP, for what it can tell: messages ready and consumers.  Raises ``BrokerUnavailable``."""
    info = probe(url)
    counts = passive_counts(url, queues)
    return Reading(
        source="amqp",
        version=info.version,
        server=info.server,
        cluster=info.cluster,
        queues={name: QueueReading(name, ready=x.messages, consumers=x.consumers) for name, x in counts.items()},
        missing=(why,) if why else (),
    )


def differences(expected: Queue, there: Declared) -> list[str]:
    """How a queue that exists differs from what the topology has; empty when it does not."""
    wanted = {name: value for name, value in expected.arguments.items() if name != "x-queue-type"}
    kind = str(expected.arguments.get("x-queue-type", "classic"))
    found = {name: value for name, value in there.arguments.items() if name != "x-queue-type"}
    words = []
    if there.kind and there.kind != kind:
        words.append(f"it is a {there.kind} queue, the topology has {kind}")
    if not there.durable:
        words.append("it is not durable: a restart of RabbitMQ deletes it")
    if there.auto_delete:
        words.append("it deletes itself with its last consumer")
    words += [
        f"{name} is {_shown(found, name)}, the topology has {_shown(wanted, name)}"
        for name in sorted(wanted.keys() | found.keys())
        if wanted.get(name) != found.get(name)
    ]
    takes = [f"{name}={there.policy_sets[name]}" for name in _TAKES if name in there.policy_sets]
    if takes:
        words.append(f"policy {there.policy!r} sets {', '.join(takes)}: messages may leave it unseen")
    words += [f"it is bound to {binding}, the topology has no bindings" for binding in there.bindings or ()]
    return words


def _shown(arguments: Mapping[str, Any], name: str) -> str:
    return repr(arguments[name]) if name in arguments else "not set"


def _queue(row: Mapping[str, Any], bindings: Sequence[Mapping[str, Any]] | None) -> QueueReading:
    name = str(row["name"])
    statistics = row.get("message_stats")
    statistics = statistics if isinstance(statistics, dict) else {}

    def rate(what: str) -> float | None:
        value = (statistics.get(f"{what}_details") or {}).get("rate")
        # A queue through which nothing ever went has no such statistics: that is none per second.
        return float(value) if value is not None else (0.0 if "messages_ready" in row else None)

    policy_sets = row.get("effective_policy_definition")
    declared = Declared(
        kind=str(row.get("type") or ""),
        durable=bool(row.get("durable", True)),
        auto_delete=bool(row.get("auto_delete", False)),
        arguments=row.get("arguments") or {},
        policy=str(row.get("policy") or ""),
        policy_sets=policy_sets if isinstance(policy_sets, dict) else {},
        bindings=None if bindings is None else tuple(_bindings(name, bindings)),
    )
    return QueueReading(
        name=name,
        ready=_count(row.get("messages_ready")),
        unacknowledged=_count(row.get("messages_unacknowledged")),
        consumers=_count(row.get("consumers")),
        published=rate("publish"),
        delivered=rate("deliver_get"),
        acknowledged=rate("ack"),
        declared=declared,
    )


def _count(value: object) -> int | None:
    return value if isinstance(value, int) else None


def _bindings(queue: str, bindings: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    for row in bindings:
        if row.get("destination_type") == "queue" and row.get("destination") == queue and row.get("source"):
            yield f"exchange {row['source']!r} by {row.get('routing_key', '')!r}"


def _alarms(nodes: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    for node in nodes:
        name = node.get("name", "?")
        if node.get("running") is False:
            yield f"{name} is not running"
        yield from (f"{what} alarm on {name}" for what, key in _ALARMS if node.get(key) is True)


_BLOCKED = ("blocked", "blocking")  #: may not publish; may not the next time it tries
_ALARMS = (("memory", "mem_alarm"), ("disk", "disk_free_alarm"))

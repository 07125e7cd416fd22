"""The part of ``hareline doctor`` that needs RabbitMQ."""

import time
from collections.abc import Iterator
from dataclasses import replace

from cli.checks import NEWEST, OLDEST, Finding, Mark
from control import agreement
from control.agreement import Comparison
from errors import BrokerUnavailable
from ledger.queries import Queries
from rabbitmq.inspection import Condition, compare, may_consume, may_publish
from rabbitmq.management import managements, passive_counts, probe
from rabbitmq.reading import Reading, read, read_passively
from rabbitmq.topology import choose_type, topology
from settings import Settings


def examine_rabbitmq(settings: Settings, url: str, *, sound: bool) -> Iterator[Finding]:
    """Server, version, queues, permissions; with a ``sound`` ledger also whether both agree.

    Raises ``BrokerUnavailable`` when nobody answers.
    """
    info = probe(url)
    yield _version(info.version, info.server, info.address)
    from actors import broker

    queue_type = choose_type(settings.queue_type, info.server)
    names = sorted(broker.get_declared_queues())
    expected = topology(names, queue_type=queue_type, server=info.server)
    conditions = compare(url, expected)
    wrong = {name: words for name, (condition, words) in conditions.items() if condition is Condition.OTHER}
    for name, words in wrong.items():
        yield Finding(
            Mark.BAD,
            f"queue {name}",
            f"it is not as the topology has it ({words}); let it run empty, then delete it: it is declared anew. "
            "Or set HARELINE_QUEUE_TYPE to the type it has",
        )
    for condition, text in (
        (Condition.MISSING, "not there yet; a worker or producer that may configure queues declares them at first use"),
        (Condition.THERE, "there; whether with the right arguments only a user who may configure them can tell"),
    ):
        if some := [name for name, (found, _) in conditions.items() if found is condition]:
            yield Finding(Mark.DOUBTFUL, "queues", f"{', '.join(some)}: {text}")
    if all(condition is Condition.RIGHT for condition, _ in conditions.values()):
        yield Finding(Mark.GOOD, "queues", f"{len(expected)} of type {queue_type}, as the topology has them")
    yield from _permissions(url, names)
    try:
        reading = _reading(settings, url)
    except BrokerUnavailable as error:
        yield Finding(Mark.DOUBTFUL, "management", f"{error}; the console shows what AMQP tells meanwhile")
    else:
        told = "; ".join((*(reading.alarms or ()), *reading.missing))
        yield Finding(Mark.DOUBTFUL if told else Mark.GOOD, "management", told or "its API answers; no alarms")
        for name, faults in agreement.faults(reading, names, settings.queue_type).items():
            if name not in wrong:
                yield Finding(Mark.DOUBTFUL, f"queue {name}", "; ".join(faults))
    if sound:
        yield from _agreement(settings, url, names)


def _reading(settings: Settings, url: str) -> Reading:
    """Of the first management API that answers."""
    candidates = managements(url, settings.rabbitmq_management_url)
    for candidate in candidates[:-1]:
        try:
            return read(candidate)
        except BrokerUnavailable:
            continue
    return read(candidates[-1])


def _agreement(settings: Settings, url: str, names: list[str]) -> Iterator[Finding]:
    """Does RabbitMQ hold the messages of the jobs that wait?"""
    queries = Queries(settings.database_url)
    try:
        differ = _differing(queries, settings, url, names)
        if differ:
            time.sleep(agreement.STATISTICS_S)  # what was on its way has arrived by then
            again = _differing(queries, settings, url, names)
            differ = {name: again[name] for name in differ.keys() & again.keys()}
    finally:
        queries.close()
    for name in sorted(differ):
        yield Finding(Mark.DOUBTFUL, f"queue {name}", differ[name].words)
    if not differ:
        yield Finding(Mark.GOOD, "messages", "what waits in the ledger is in RabbitMQ")


def _differing(queries: Queries, settings: Settings, url: str, names: list[str]) -> dict[str, Comparison]:
    """AMQP's counts are exact, and it knows of none in workers' hands: those are the management API's to tell."""
    before = queries.in_flight(settings.resend_after_s)
    reading = read_passively(url, names)
    try:
        told = _reading(settings, url).queues
    except BrokerUnavailable:
        told = {}
    counted = {
        name: replace(told[name], ready=queue.ready, consumers=queue.consumers) if name in told else queue
        for name, queue in reading.queues.items()
    }
    looks = (before, queries.in_flight(settings.resend_after_s))
    found = agreement.compare(looks, replace(reading, queues=counted), names)
    return {x.queue: x for x in found if x.verdict in ("missing", "more")}


def _version(version: str, server: tuple[int, int], address: str) -> Finding:
    text = f"{version} at {address}"
    supported = f"{OLDEST[0]}.{OLDEST[1]} to {NEWEST[0]}.{NEWEST[1]}"
    if server < OLDEST:
        return Finding(Mark.BAD, "rabbitmq", f"{text} is too old; use {supported}")
    if server > NEWEST:
        return Finding(Mark.DOUBTFUL, "rabbitmq", f"{text} is newer than what was tested ({supported})")
    if (4, 0) <= server < (4, 3):
        text += "; its quorum queues have two priorities only, so queue type auto is classic (4.3 has all)"
    return Finding(Mark.GOOD, "rabbitmq", text)


def _permissions(url: str, names: list[str]) -> Iterator[Finding]:
    if why := may_publish(url):
        text = f"this user may not publish ({why}); give it write permission on amq.default"
        yield Finding(Mark.BAD, "permissions", text)
    else:
        yield Finding(Mark.GOOD, "permissions", "may publish")
    counts = passive_counts(url, names)
    empty = [name for name, count in counts.items() if count.messages == 0]
    if not empty:
        why = "every queue has messages" if counts else "there is no queue yet"
        yield Finding(Mark.DOUBTFUL, "permissions", f"whether it may consume was not tried: {why}")
    elif refused := {name: why for name in empty if (why := may_consume(url, name))}:
        words = next(iter(refused.values()))
        text = f"this user may not consume {', '.join(refused)} ({words}); a producer need not, a worker must"
        yield Finding(Mark.DOUBTFUL, "permissions", text)
    else:
        yield Finding(Mark.GOOD, "permissions", f"may consume {', '.join(empty)}")

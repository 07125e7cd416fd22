"""Spans as an SDK records them: of sends, attempts, retries and pipelines, on both roads; and what log lines say."""

import json
import logging
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import dramatiq
import pika
import pytest
from dramatiq import Worker
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode, format_trace_id

from broker import build
from broker.broker import Broker
from logs import surroundings
from middleware.tracing import Tracing
from settings import Settings

CONTEXT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@dataclass
class Traced:
    """A broker with a worker in this process, and what was recorded of it."""

    broker: Broker
    exporter: InMemorySpanExporter

    def spans(self, name: str, count: int) -> list[ReadableSpan]:
        """The spans of this name, oldest first, once there are so many."""
        deadline = time.monotonic() + 30
        while True:
            found = [span for span in self.exporter.get_finished_spans() if span.name == name]
            if len(found) >= count:
                assert len(found) == count
                return sorted(found, key=lambda span: span.start_time or 0)
            assert time.monotonic() < deadline, [span.name for span in self.exporter.get_finished_spans()]
            time.sleep(0.01)


@pytest.fixture(params=["embedded-sqlite", "rabbitmq-postgresql"])
def settings(request: pytest.FixtureRequest) -> Settings:
    if request.param == "embedded-sqlite":
        return Settings(database_url=request.getfixturevalue("sqlite_url"), tracing="links")
    urls = {name: request.getfixturevalue(f"{server}_url") for name, server in SERVERS.items()}
    return Settings(**urls, tracing="links", min_backoff_ms=10)


SERVERS = {"database_url": "postgres", "broker_url": "rabbitmq"}


@pytest.fixture
def traced(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Traced]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    system = "rabbitmq" if settings.broker_url else "hareline"
    made = Tracing(system=system, parents=settings.tracing == "parents", provider=provider)
    monkeypatch.setattr(sys.modules["broker.build"], "_tracing", lambda settings: made)
    found = Traced(build(settings), exporter)
    yield found
    found.broker.close()
    provider.shutdown()


def work(traced: Traced) -> Worker:
    worker = Worker(traced.broker, worker_timeout=20)
    worker.start()
    return worker


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def linked(span: ReadableSpan) -> list[int]:
    return [link.context.span_id for link in span.links]


def test_a_send_its_attempts_and_the_next_step_are_linked(traced: Traced) -> None:
    logged: list[dict[str, Any]] = []

    @dramatiq.actor(broker=traced.broker, queue_name="email", max_retries=1, min_backoff=10, store_results=True)
    def write(text: str) -> str:
        line = surroundings(None, "info", {"event": "here"})
        logged.append(dict(line))
        if len(logged) == 1:
            raise ValueError("not yet")
        return text

    @dramatiq.actor(broker=traced.broker, queue_name="post")
    def post(text: str) -> None:
        logged.append(dict(surroundings(None, "info", {"event": "there"})))

    worker = work(traced)
    try:
        dramatiq.pipeline([write.message("a"), post.message()], broker=traced.broker).run()  # type: ignore[call-arg]
        [sent], [first, second] = traced.spans("send email", 1), traced.spans("process email", 2)
        [handed_on], [last] = traced.spans("send post", 1), traced.spans("process post", 1)
    finally:
        worker.stop()
    assert (sent.kind, first.kind) == (SpanKind.PRODUCER, SpanKind.CONSUMER)
    system = "rabbitmq" if traced.broker.road.__class__.__name__ == "AmqpRoad" else "hareline"
    told = attributes(sent)
    assert (told["messaging.system"], told["messaging.destination.name"]) == (system, "email")
    assert (told["messaging.operation.name"], told["messaging.operation.type"]) == ("send", "send")
    # A retry is linked to the same send, in a trace of its own.
    assert linked(first) == linked(second) == [sent.context.span_id]
    assert first.parent is None
    assert len({span.context.trace_id for span in (sent, first, second, last)}) == 4
    told = attributes(first)
    assert (told["hareline.attempt"], told["hareline.outcome"], told["error.type"]) == (1, "retrying", "ValueError")
    assert told["messaging.message.id"] == attributes(sent)["messaging.message.id"]
    assert (first.status.status_code, second.status.status_code) == (StatusCode.ERROR, StatusCode.UNSET)
    told = attributes(second)
    assert (told["hareline.attempt"], told["hareline.outcome"]) == (2, "completed")
    assert 0 <= told["hareline.queue_time_s"] < 30
    # The next step is sent by the attempt that completed, and linked to that.
    assert handed_on.parent is not None
    assert handed_on.parent.span_id == second.context.span_id
    assert linked(last) == [handed_on.context.span_id]
    jobs = [told["hareline.job.id"] for told in map(attributes, (first, second, last))]
    assert [(line["job"], line["actor"], line["attempt"]) for line in logged] == [
        (jobs[0], "write", 1),
        (jobs[1], "write", 2),
        (jobs[2], "post", 1),
    ]
    traces = [format_trace_id(span.context.trace_id) for span in (first, second, last)]
    assert [line["trace_id"] for line in logged] == traces


def test_many_messages_are_one_span(traced: Traced) -> None:
    done = threading.Semaphore(0)

    @dramatiq.actor(broker=traced.broker, queue_name="email")
    async def count(n: int) -> None:
        done.release()

    worker = work(traced)
    try:
        traced.broker.enqueue_many([count.message(n) for n in range(3)])
        [sent], ran = traced.spans("send email", 1), traced.spans("process email", 3)
    finally:
        worker.stop()
    assert attributes(sent)["messaging.batch.message_count"] == 3
    assert [linked(span) for span in ran] == [[sent.context.span_id]] * 3


def test_a_foreign_message_brings_its_context_in_its_headers(traced: Traced, settings: Settings) -> None:
    if settings.broker_url is None:
        pytest.skip("only RabbitMQ has foreign messages")

    @dramatiq.actor(broker=traced.broker, queue_name="email")
    def receive() -> None:
        assert surroundings(None, "info", {})["job"]

    worker = work(traced)
    try:
        until_declared(settings.broker_url, "email", {"traceparent": CONTEXT, "tracestate": "vendor=1"})
        [ran] = traced.spans("process email", 1)
    finally:
        worker.stop()
    [link] = ran.links
    assert format_trace_id(link.context.trace_id) == CONTEXT.split("-")[1]
    assert link.context.trace_state == {"vendor": "1"}


def until_declared(url: str, queue: str, headers: dict[str, str]) -> None:
    body = {"queue_name": queue, "actor_name": "receive", "args": [], "kwargs": {}, "options": {}, "message_id": "x"}
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        deadline = time.monotonic() + 30
        while True:
            channel = connection.channel()
            channel.confirm_delivery()
            try:
                text = json.dumps(body | {"message_timestamp": 1}).encode()
                channel.basic_publish("", queue, text, pika.BasicProperties(headers=headers), mandatory=True)
                return
            except pika.exceptions.UnroutableError:
                assert time.monotonic() < deadline
                channel.close()
                time.sleep(0.05)


def test_a_send_that_is_refused_is_an_error(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    made = Tracing(system="hareline", parents=True, provider=provider)
    monkeypatch.setattr(sys.modules["broker.build"], "_tracing", lambda settings: made)
    found = Traced(build(Settings(database_url=sqlite_url, tracing="parents")), exporter)

    @dramatiq.actor(broker=found.broker, queue_name="email")
    def write(text: str) -> None:
        logging.getLogger("test").debug(text)

    with pytest.raises(Exception, match="do not fit"):
        write.send(1)  # type: ignore[arg-type]
    [refused] = found.spans("send email", 1)
    assert (refused.status.status_code, attributes(refused)["error.type"]) == (StatusCode.ERROR, "InvalidPayload")
    worker = work(found)
    try:
        write.send("a")
        [ran] = found.spans("process email", 1)
    finally:
        worker.stop()
    [_, sent] = found.spans("send email", 2)
    assert ran.parent is not None
    assert (ran.parent.span_id, ran.context.trace_id) == (sent.context.span_id, sent.context.trace_id)
    assert not ran.links
    found.broker.close()
    provider.shutdown()

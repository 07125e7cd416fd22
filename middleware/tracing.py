"""OpenTelemetry: a span around every send and around every attempt, by the messaging conventions."""

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

from dramatiq import Broker, Middleware
from dramatiq.broker import MessageProxy
from dramatiq.message import Message
from opentelemetry import context, trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode, TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from ledger.states import Outcome
from logs import add_surroundings
from middleware.attempt import JobMessage

_w3c = TraceContextTextMapPropagator()


class Tracing(Middleware):
    """Spans of kind producer and consumer; a message carries the W3C context of its send in its options.

    An attempt's span begins a trace of its own that links to the send, since the two may be a year apart, and one
    send may have a thousand jobs.  A retry links to the same send; what an attempt sends, a pipeline's next step too,
    is in its trace.  What is logged meanwhile has ``trace_id``.

    Has no options.  Fails open: without an SDK set up, jobs are sent and run untraced.

    Parameters:
      system: the conventions' ``messaging.system``.
      parents: an attempt's span is a child of its send's, in the same trace, instead.
      provider: the global one when None.
    """

    def __init__(self, *, system: str, parents: bool, provider: TracerProvider | None = None) -> None:
        self.parents = parents
        self._tracer = trace.get_tracer("hareline", version("hareline"), provider)
        self._common = {"messaging.system": system}
        self._running = threading.local()
        add_surroundings(_named)

    @contextmanager
    def sending(self, messages: Sequence[Message[Any]]) -> Iterator[None]:
        """A span around the send of these messages, who carry its context."""
        queues = {message.queue_name for message in messages}
        attributes: dict[str, Any] = {
            **self._common,
            "messaging.operation.name": "send",
            "messaging.operation.type": "send",
        }
        if len(queues) == 1:
            attributes |= _destination(messages[0].queue_name)
        if len(messages) == 1:
            attributes |= {"messaging.message.id": messages[0].message_id, "hareline.actor": messages[0].actor_name}
        else:
            attributes["messaging.batch.message_count"] = len(messages)
        name = " ".join(["send", *(queues if len(queues) == 1 else ())])
        with self._tracer.start_as_current_span(name, kind=SpanKind.PRODUCER, attributes=attributes) as span:
            carrier: dict[str, str] = {}
            _w3c.inject(carrier)
            for message in messages:
                message.options.update(carrier)
            try:
                yield
            except Exception as error:
                span.set_attribute("error.type", type(error).__qualname__)
                raise

    def before_process_message(self, broker: Broker, message: MessageProxy) -> None:
        if not isinstance(message, JobMessage):
            return
        sent = _w3c.extract(_texts(message.options), Context())
        sender = trace.get_current_span(sent).get_span_context()
        links = [Link(sender)] if sender.is_valid and not self.parents else []
        claim = message.claim
        attributes: dict[str, Any] = {
            **self._common,
            **_destination(message.queue_name),
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.message.id": message.message_id,
            "hareline.actor": message.actor_name,
            "hareline.job.id": claim.id,
            "hareline.attempt": claim.attempts + 1,
        }
        if claim.due_at is not None:
            attributes["hareline.queue_time_s"] = time.monotonic() - claim.due_since
        span = self._tracer.start_span(
            f"process {message.queue_name}",
            context=sent if self.parents else Context(),
            kind=SpanKind.CONSUMER,
            attributes=attributes,
            links=links,
        )
        self._running.span = span, context.attach(trace.set_span_in_context(span))

    def after_process_message(
        self, broker: Broker, message: MessageProxy, *, result: Any = None, exception: BaseException | None = None
    ) -> None:
        self._end(message, exception)

    def after_skip_message(self, broker: Broker, message: MessageProxy) -> None:
        self._end(message, message.exception if isinstance(message, JobMessage) else None)

    def _end(self, message: MessageProxy, error: BaseException | None) -> None:
        running: tuple[Span, Any] | None = getattr(self._running, "span", None)
        if running is None or not isinstance(message, JobMessage):
            return  # skipped by a middleware before this one
        self._running.span = None
        span, token = running
        try:
            _describe(span, message, error)
        finally:
            context.detach(token)
            span.end()


def _describe(span: Span, message: JobMessage, error: BaseException | None) -> None:
    if message.ending is not None:
        outcome = message.ending.outcome
    else:  # nobody has said otherwise
        outcome = Outcome.COMPLETED if error is None and not message.failed else Outcome.FAILED
    span.set_attribute("hareline.outcome", outcome.value)
    if outcome not in (Outcome.RETRYING, Outcome.FAILED):
        return
    if message.ending is not None and message.ending.reason is not None:
        span.set_attribute("hareline.reason", message.ending.reason.value)
    if error is not None:
        span.set_attribute("error.type", type(error).__qualname__)
        if message.seal is None:  # else its text and its traceback may tell a secret
            span.record_exception(error)
    span.set_status(Status(StatusCode.ERROR, None if error is None else type(error).__qualname__))


def _destination(queue: str) -> dict[str, str]:
    return {"messaging.destination.name": queue}


def _texts(options: Mapping[str, Any]) -> dict[str, str]:
    """Whatever others have put there."""
    return {name: options[name] for name in ("traceparent", "tracestate") if isinstance(options.get(name), str)}


def _named() -> Mapping[str, object]:
    span = trace.get_current_span().get_span_context()
    return {"trace_id": trace.format_trace_id(span.trace_id)} if span.is_valid else {}

"""Queue ``llm-requests``: questions to language models, and what they cost.

llm_request ──► track_llm_usage
"""

import time
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, cast
from uuid import uuid4

import dramatiq
import structlog
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import select

from actors.database import add, database
from actors.events import CompletionEvent, Name
from actors.openai import CIRCUIT, openai
from actors.priorities import Priority
from actors.tables import replies
from actors.usage import track_llm_usage
from ledger.text import clean
from middleware.handles import Sent

log = structlog.get_logger(__name__)


class Message(BaseModel):
    """One turn of a conversation."""

    model_config = ConfigDict(frozen=True)

    role: Literal["system", "user", "assistant"]
    content: str


class Question(BaseModel):
    """What a model is asked, for whom, and who pays."""

    model_config = ConfigDict(frozen=True)

    request_id: Name
    model: Name
    messages: Annotated[list[Message], Field(min_length=1)]
    user: Name = "system"
    customer: Name = "internal"
    provider: Name = "openai"  #: by whose prices it is billed
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None


class Reply(BaseModel):
    """What it answered."""

    request_id: str
    text: str
    finish_reason: str  #: "stop"; "length" when max_tokens cut it off; another one where there is no text
    input_tokens: int
    output_tokens: int


@dramatiq.actor(
    queue_name="llm-requests",
    priority=Priority.NORMAL,
    max_retries=5,
    max_backoff=60_000,
    time_limit=300_000,
    circuit=CIRCUIT,
    atomic_sends=True,
    store_results=True,
)
def llm_request(question: Question) -> Reply:
    """Ask a model, keep its reply, and have what was used priced and billed.

    Idempotent: a request id that has a reply is not asked again.  A worker that dies between the answer and its
    storing asks twice, with the same ``Idempotency-Key``; its usage is billed once, for that goes by the request id.
    """
    event = _kept(question.request_id)
    if event is None:
        event = _ask(question)
    else:
        log.info("llm.known", request_id=question.request_id)
    track_llm_usage.send(event.model_dump(mode="json"))
    reply = find(question.request_id)
    assert reply is not None, "it was kept above"
    return reply


def queue_llm_request(
    model: str,
    prompt: str,
    *,
    user: str = "system",
    customer: str = "internal",
    request_id: str | None = None,
    priority: Priority = Priority.NORMAL,
) -> Sent[dict[str, Any]]:
    """Ask a model one thing; the handle's ``result()`` has the fields of a :class:`Reply`.

    Parameters:
      request_id: names the request for ever: the second one of an id gets the first one's reply.
    """
    question = Question(
        request_id=request_id or str(uuid4()),
        model=model,
        messages=[Message(role="user", content=prompt)],
        user=user,
        customer=customer,
    )
    return cast("Sent[Any]", llm_request.send_with_options(args=(question,), priority=priority))


def find(request_id: str) -> Reply | None:
    """The reply to a request, or None."""
    with database().read() as connection:
        row = connection.execute(select(replies).where(replies.c.request_id == request_id)).one_or_none()
    if row is None:
        return None
    return Reply(request_id=request_id, text=row.text, finish_reason=row.finish_reason, **_tokens(row.usage))


def _tokens(usage: dict[str, int]) -> dict[str, int]:
    return {name: usage[name] for name in ("input_tokens", "output_tokens")}


def _kept(request_id: str) -> CompletionEvent | None:
    with database().read() as connection:
        usage = connection.scalar(select(replies.c.usage).where(replies.c.request_id == request_id))
    return None if usage is None else CompletionEvent.parse(usage)


def _ask(question: Question) -> CompletionEvent:
    body = question.model_dump(include={"model", "messages", "max_tokens", "temperature"}, exclude_none=True)
    at, began = datetime.now(UTC), time.monotonic()
    completion = openai().complete(body, key=question.request_id)
    [choice, *_] = completion.choices
    event = CompletionEvent(
        **question.model_dump(include={"request_id", "model", "user", "customer", "provider"}),
        input_tokens=completion.usage.prompt_tokens,
        output_tokens=completion.usage.completion_tokens,
        cached_tokens=min(completion.usage.cached, completion.usage.prompt_tokens),
        latency_ms=round((time.monotonic() - began) * 1000),
        at=at,
    )
    row = {
        "request_id": question.request_id,
        "model": clean(completion.model),
        "text": clean(choice.message.content or ""),  # without one, it is paid for all the same
        "finish_reason": clean(choice.finish_reason or "unknown"),
        "usage": event.model_dump(mode="json"),
    }
    with database().write() as connection:
        add(connection, replies, row)
    return event

"""The API: a chat request is passed on to a model, answered, and billed."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from fastapi import FastAPI
from pydantic import BaseModel, Field

from actors.openai import openai
from examples.fastapi_app.tracking import prepare, track


class Chat(BaseModel):
    customer: str = Field(min_length=1, max_length=200)
    user: str = Field(min_length=1, max_length=200)
    prompt: str = Field(min_length=1, max_length=10_000)
    model: str = "gpt-4o"


class Reply(BaseModel):
    request_id: str
    text: str


def create_app(track: Callable[[dict[str, Any]], object] = track) -> FastAPI:
    """The API, with this in its request path."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        prepare()
        yield

    app = FastAPI(title="Chat", lifespan=lifespan)

    @app.post("/chat")
    def chat(asked: Chat) -> Reply:
        """Ask a model."""
        request_id, began = f"chat_{uuid4().hex}", time.perf_counter()
        message = {"role": "user", "content": asked.prompt}
        answer = openai().complete({"model": asked.model, "messages": [message]}, key=request_id)
        track(
            {
                "request_id": request_id,
                "customer": asked.customer,
                "user": asked.user,
                "provider": "openai",
                "model": asked.model,
                "input_tokens": answer.usage.prompt_tokens,
                "output_tokens": answer.usage.completion_tokens,
                "cached_tokens": answer.usage.cached,
                "latency_ms": round((time.perf_counter() - began) * 1000),
                "at": datetime.now(UTC).isoformat(),
            }
        )
        return Reply(request_id=request_id, text=answer.choices[0].message.content or "")

    return app

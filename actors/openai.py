"""An endpoint that speaks OpenAI's protocol: theirs, or that of a server of yours."""

from collections.abc import Sequence
from typing import Any

import httpx
from pydantic import BaseModel, Field

from actors.outside import Refused, Service, Unavailable, in_header, needed, shaped
from actors.per_process import per_process
from middleware.circuit import Circuit
from settings import load

#: Shared by all that asks it: while it is down, none of them tries.
CIRCUIT = Circuit("openai", counts=Unavailable)


class _Embedding(BaseModel):
    index: int
    embedding: list[float] = Field(min_length=1)


class _Embeddings(BaseModel):
    data: list[_Embedding]


class _Message(BaseModel):
    content: str | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Cached(BaseModel):
    cached_tokens: int = 0


class Tokens(BaseModel):
    """What an answer used."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: _Cached | None = None

    @property
    def cached(self) -> int:
        return self.prompt_tokens_details.cached_tokens if self.prompt_tokens_details else 0


class Completion(BaseModel):
    """A model's answer."""

    model: str
    choices: list[_Choice] = Field(min_length=1)
    usage: Tokens = Tokens()


class OpenAI(Service):
    """One such endpoint.  Thread-safe; raises what :class:`~actors.outside.Service` raises."""

    def embed(self, model: str, texts: Sequence[str]) -> list[list[float]]:
        """A vector for each text, in their order.  The same text has the same vector: safe to repeat."""
        answer = self.post("/embeddings", {"model": model, "input": list(texts), "encoding_format": "float"})
        found = {item.index: item.embedding for item in shaped(_Embeddings, answer).data}
        if sorted(found) != list(range(len(texts))):
            raise Unavailable(f"{answer.url} answered {len(found)} vectors for {len(texts)} texts")
        return [found[index] for index in range(len(texts))]

    def complete(self, body: dict[str, Any], *, key: str) -> Completion:
        """Ask a model.

        Parameters:
          key: sent as ``Idempotency-Key``: a server that knows it answers a repeated request from its memory.
        """
        answer = self.post("/chat/completions", body, headers={"Idempotency-Key": in_header(key)})
        return shaped(Completion, answer)

    def problem(self, response: httpx.Response, said: str) -> Exception:
        """As everywhere; but 429 also means that the money is spent, and then waiting does not help."""
        if response.status_code == 429 and "insufficient_quota" in response.text:
            return Refused(f"{said} (the account has no credit left)", code="insufficient_quota")
        return super().problem(response, said)


def openai() -> OpenAI:
    """This process's client of the endpoint in the settings.  Raises ``NotConfigured``."""
    return needed(_client(), "openai_url", "no model can be asked")


@per_process
def _client() -> OpenAI | None:
    settings = load()
    if settings.openai_url is None:
        return None
    headers = {}
    if settings.openai_key is not None:  # a server of one's own often wants none
        headers["Authorization"] = f"Bearer {settings.openai_key.get_secret_value()}"
    return OpenAI(
        settings.openai_url,
        timeout_s=settings.openai_timeout_s,
        check="OPENAI_BASE_URL, OPENAI_API_KEY and the model's name",
        headers=headers,
    )

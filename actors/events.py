"""The completion event: what an application reports after each call of a language model."""

from collections.abc import Mapping
from datetime import UTC
from typing import Annotated, Any, Self

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

from errors import Discard
from ledger.text import clean

Name = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(clean)]
#: What names a thing for ever: often made of another's name, and a few words.
Id = Annotated[str, Field(min_length=1, max_length=300), AfterValidator(clean)]
Tokens = Annotated[int, Field(ge=0, le=1_000_000_000)]


class InvalidEvent(Discard):
    """Raised when a completion event is malformed: a dead letter at once, for trying again cannot help."""


class CompletionEvent(BaseModel):
    """One call of a language model.  Unknown fields are ignored, so that senders may be newer than workers."""

    model_config = ConfigDict(frozen=True, strict=True, str_strip_whitespace=True)

    request_id: Name
    customer: Name
    user: Name
    provider: Name
    model: Name
    input_tokens: Tokens
    output_tokens: Tokens
    cached_tokens: Tokens = 0  #: those of the input tokens that came from the provider's cache
    latency_ms: Annotated[int, Field(ge=0)]
    at: Annotated[AwareDatetime, Field(strict=False)]  #: when the call was made; ISO 8601 with an offset

    @model_validator(mode="after")
    def _cached_is_part_of_input(self) -> Self:
        if self.cached_tokens > self.input_tokens:
            raise ValueError(f"cached_tokens ({self.cached_tokens}) cannot exceed input_tokens ({self.input_tokens})")
        return self

    @property
    def period(self) -> str:
        """The billing period it belongs to: the month, in UTC, as ``YYYY-MM``."""
        return self.at.astimezone(UTC).strftime("%Y-%m")

    @classmethod
    def parse(cls, event: Mapping[str, Any]) -> Self:
        """Validate ``event``; raises :class:`InvalidEvent` naming every field that is wrong."""
        try:
            return cls.model_validate(event)
        except ValidationError as error:
            wrong = "; ".join(
                f"{'.'.join(map(str, item['loc'])) or 'event'}: {item['msg'].removeprefix('Value error, ')}"
                for item in error.errors(include_url=False)
            )
            raise InvalidEvent(f"malformed completion event: {wrong}") from error

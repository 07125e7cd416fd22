"""PostHog's batch capture endpoint."""

from types import TracebackType
from typing import Any, Self
from uuid import NAMESPACE_URL, uuid5

import httpx

from actors.events import CompletionEvent
from actors.outside import PASSING, retry_after_ms
from errors import Discard, HarelineError, Retry


class PostHogUnavailable(HarelineError):
    """Raised when PostHog did not answer, or with an error of its own; the job's back-off applies."""


class PostHogRefused(Discard):
    """Raised when PostHog will never take this request: a wrong key, a wrong address, a bad event."""


class PostHog:
    """A client of one PostHog project.  Thread-safe."""

    def __init__(self, url: str, key: str, *, timeout_s: float) -> None:
        self._endpoint = f"{url.rstrip('/')}/batch/"
        self._key = key
        self._timeout_s = timeout_s
        self._http = httpx.Client(timeout=timeout_s)

    def capture(self, completion: CompletionEvent) -> None:
        """Deliver one event.  Idempotent: PostHog keeps one event per uuid, and the uuid follows from the request id.

        Raises ``Retry`` with the delay PostHog asked for on 429 and 503, :class:`PostHogUnavailable` on other
        5xx, on 408 and its like, and when the network fails, and :class:`PostHogRefused` on every other answer that is
        not 2xx.
        """
        try:
            response = self._http.post(self._endpoint, json={"api_key": self._key, "batch": [generation(completion)]})
        except httpx.TimeoutException as error:
            raise PostHogUnavailable(f"{self._endpoint} did not answer within {self._timeout_s:g} s") from error
        except httpx.TransportError as error:
            raise PostHogUnavailable(f"{self._endpoint} cannot be reached: {error}") from error
        if response.is_success:
            return
        said = f"{self._endpoint} answered {response.status_code} {response.reason_phrase}: {response.text[:200]}"
        if response.status_code in (429, 503):
            raise Retry(said, delay=retry_after_ms(response.headers.get("retry-after")))
        if response.is_server_error or response.status_code in PASSING:
            raise PostHogUnavailable(said)
        raise PostHogRefused(f"{said} (check POSTHOG_URL and POSTHOG_API_KEY)")

    def close(self) -> None:
        """Close every connection."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def generation(completion: CompletionEvent) -> dict[str, Any]:
    """The completion as PostHog's ``$ai_generation`` event."""
    return {
        "event": "$ai_generation",
        "uuid": uuid_of(completion.request_id),
        "distinct_id": completion.user,
        "timestamp": completion.at.isoformat(),
        "properties": {
            "$ai_trace_id": completion.request_id,
            "$ai_provider": completion.provider,
            "$ai_model": completion.model,
            "$ai_input_tokens": completion.input_tokens,
            "$ai_output_tokens": completion.output_tokens,
            "$ai_cache_read_input_tokens": completion.cached_tokens,
            "$ai_latency": completion.latency_ms / 1000,
            "customer": completion.customer,
        },
    }


def uuid_of(request_id: str) -> str:
    """The uuid by which PostHog knows the event of this request."""
    return str(uuid5(NAMESPACE_URL, f"hareline:completion:{request_id}"))
